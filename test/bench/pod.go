package main

import (
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// images are of the three registries that the namespace can reach without naming a Connector.
func images() []string {
	return []string{
		"harbor.example.com/shop/checkout:v1.24.3",
		"ghcr.io/example/log-shipper@sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa",
		"redis:7.4",
	}
}

// request is the admission of a Pod with as many containers, as the API server asks for it.
func request(containers int) (admission.Request, error) {
	raw, err := json.Marshal(pod(containers))
	if err != nil {
		return admission.Request{}, fmt.Errorf("encode the Pod: %w", err)
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID:       "705ab4f5-6393-11e8-b7cc-42010a800002",
		Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: own, Operation: admissionv1.Create,
		Object: runtime.RawExtension{Raw: raw},
	}}, nil
}

// pod is a Pod of a Deployment as the API server shows it to webhooks: with the
// defaults, the ServiceAccount's volume, the tolerations and the managed fields.
func pod(containers int) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: podMeta(containers),
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: new(int64(30)),
			DNSPolicy: corev1.DNSClusterFirst, ServiceAccountName: "checkout", DeprecatedServiceAccount: "checkout",
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), FSGroup: new(int64(2000))},
			SchedulerName:   corev1.DefaultSchedulerName, Priority: new(int32(0)), EnableServiceLinks: new(true),
			PreemptionPolicy: new(corev1.PreemptLowerPriority), Volumes: volumes(),
			Tolerations: []corev1.Toleration{
				{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
				{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
			},
		},
	}
	for i := range containers {
		p.Spec.Containers = append(p.Spec.Containers, container(i))
	}
	return p
}

func podMeta(containers int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		GenerateName: "checkout-6d4cf56db6-", Namespace: own,
		Labels: map[string]string{
			"app.kubernetes.io/name": "checkout", "app.kubernetes.io/instance": "checkout", "pod-template-hash": "6d4cf56db6",
		},
		Annotations: map[string]string{
			"prometheus.io/scrape": "true", "prometheus.io/port": "8080",
			"checksum/config": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
		},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "checkout-6d4cf56db6", UID: "34f6f0a6-1c5e-4b3c-8e62-3f2b1a1f7a53",
			Controller: new(true), BlockOwnerDeletion: new(true),
		}},
		ManagedFields: podManagedFields(containers),
	}
}

func podManagedFields(containers int) []metav1.ManagedFieldsEntry {
	each := map[string]any{}
	for i := range containers {
		fields := map[string]any{".": map[string]any{}}
		for _, name := range []string{
			"name", "image", "imagePullPolicy", "ports", "env", "resources", "volumeMounts", "livenessProbe", "readinessProbe",
			"securityContext", "terminationMessagePath", "terminationMessagePolicy",
		} {
			fields["f:"+name] = map[string]any{}
		}
		each[fmt.Sprintf(`k:{"name":"c%d"}`, i)] = fields
	}
	return managedFields(map[string]any{"f:spec": map[string]any{"f:containers": each}})
}

func container(i int) corev1.Container {
	probe := &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/healthz", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP,
		}},
		InitialDelaySeconds: 5, TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
	}
	return corev1.Container{
		Name: fmt.Sprintf("c%d", i), Image: images()[i%len(images())], ImagePullPolicy: corev1.PullIfNotPresent,
		Args:  []string{"--config=/etc/checkout/config.yaml", "--log-level=info"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		Env:   variables(),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: "/etc/checkout", ReadOnly: true},
			{Name: "kube-api-access-x7k2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
		LivenessProbe: probe, ReadinessProbe: probe,
		TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

func variables() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "LOG_LEVEL", Value: "info"},
		{Name: "DATABASE_URL", Value: "postgres://checkout@db.shop.svc:5432/checkout"},
		{Name: "DATABASE_PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "checkout-db"}, Key: "password",
		}}},
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}},
	}
}

func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "checkout"}, DefaultMode: new(int32(0o644)),
		}}},
		{Name: "kube-api-access-x7k2p", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(0o644)),
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: new(int64(3607)), Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
					Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
					{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
				}}},
			},
		}}},
	}
}

// managedFields are one manager's, as the API server keeps them on every object.
func managedFields(fields map[string]any) []metav1.ManagedFieldsEntry {
	raw, err := json.Marshal(fields)
	if err != nil {
		panic(err) // maps of strings always marshal
	}
	return []metav1.ManagedFieldsEntry{{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(raw)), Time: &metav1.Time{},
	}}
}

// uid is a UID as long as the API server's.
func uid(i int) types.UID { return types.UID(fmt.Sprintf("6f5b3c1e-0d2a-4c7b-9e8f-%012d", i)) }
