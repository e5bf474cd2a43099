package rewrite

import (
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

// The files of the CSI volume that containers are told of.
const (
	// BundleFile holds public authorities and the Connectors'.
	BundleFile = "ca-bundle.crt"
	// TrustStoreFile is the same for Java (PKCS #12).
	TrustStoreFile = "truststore.p12"
)

const (
	volumeName = "berth"

	attributeConnectors     = "connectors"
	attributeConfigurations = "configurations"
)

// equip gives the containers what they are to have beside images: the files of
// the CSI volume where they asked for some or get the proxy, and the proxy.
func equip(pod *corev1.Pod, s *settings, policy *Policy, report *Report) {
	report.Skips = append(report.Skips, s.invalid...)
	report.Skips = append(report.Skips, s.notConfigured(policy)...)
	proxy := s.proxy && policy.Proxy.Address != ""
	files := policy.Files.Enabled && (proxy || len(s.configurations) > 0)
	var volume string
	if files {
		volume = addVolume(&pod.Spec, s)
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", pod.Spec.InitContainers}, {"containers", pod.Spec.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			field := "spec." + list.name + "{" + c.Name + "}"
			var folder string
			if files {
				folder = mount(c, field, volume, policy.Files.MountPath, report)
			}
			if proxy {
				addProxy(c, field, s, policy, report)
			}
			if folder != "" && proxy {
				trust(c, folder, &policy.Files)
			}
		}
	}
}

// addVolume sees to it that the Pod has the CSI volume, and returns its name.
func addVolume(spec *corev1.PodSpec, s *settings) string {
	taken := map[string]bool{}
	for _, v := range spec.Volumes {
		if v.CSI != nil && v.CSI.Driver == v1alpha1.CSIDriver {
			return v.Name
		}
		taken[v.Name] = true
	}
	name := volumeName
	for i := 2; taken[name]; i++ {
		name = volumeName + "-" + strconv.Itoa(i)
	}
	readOnly := true
	attributes := map[string]string{}
	if s.named {
		attributes[attributeConnectors] = strings.Join(s.connectors, ",")
	}
	if len(s.configurations) > 0 {
		attributes[attributeConfigurations] = strings.Join(s.configurations, ",")
	}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		CSI: &corev1.CSIVolumeSource{Driver: v1alpha1.CSIDriver, ReadOnly: &readOnly, VolumeAttributes: attributes},
	}})
	return name
}

// mount mounts the volume, unless the container has it or something else there,
// and returns the folder in which the container finds the files; empty: in none.
func mount(c *corev1.Container, field, volume, folder string, report *Report) string {
	taken := false
	for _, m := range c.VolumeMounts {
		if m.Name == volume && m.SubPath == "" && m.SubPathExpr == "" {
			return path.Clean(m.MountPath)
		}
		taken = taken || path.Clean(m.MountPath) == folder
	}
	if taken {
		report.skip(Skip{Field: field + ".volumeMounts", Reason: ReasonMountPathTaken, Detail: "'" + folder + "'"})
		return ""
	}
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: folder})
	report.Changes = append(report.Changes, Change{Field: field + ".volumeMounts", Reason: ReasonFilesAdded, To: folder})
	return folder
}

// trust names the bundle in every variable that clients look at and that is not set.
func trust(c *corev1.Container, folder string, files *v1alpha1.FilesConfiguration) {
	for _, name := range files.CAVariables {
		setDefault(c, name, folder+"/"+BundleFile)
	}
	setDefault(c, "WGETRC", folder+"/"+v1alpha1.FileWget)
	if files.JavaTrustStore {
		setDefault(c, "JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore="+folder+"/"+TrustStoreFile+
			" -Djavax.net.ssl.trustStoreType=PKCS12")
	}
}

// setDefault appends a variable that is not set.
func setDefault(c *corev1.Container, name, value string) {
	if lookup(c, name) == nil {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	}
}

// lookup returns the entry that counts for a variable: the last of its name.
func lookup(c *corev1.Container, name string) *corev1.EnvVar {
	for i := len(c.Env) - 1; i >= 0; i-- {
		if c.Env[i].Name == name {
			return &c.Env[i]
		}
	}
	return nil
}
