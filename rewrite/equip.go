package rewrite

import (
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

const volumeName = "berth"

// equip gives the containers what they are to have beside images: the files of
// the CSI volume where they asked for some or get the proxy, and the proxy.
func equip(pod *corev1.Pod, s *settings, policy *Policy, report *Report) {
	report.Skips = append(report.Skips, s.invalid...)
	report.Skips = append(report.Skips, s.notConfigured(policy)...)
	proxy := s.proxy && policy.Proxy.Address != ""
	var files *corev1.Volume
	if policy.Files.Enabled && (proxy || len(s.configurations) > 0) {
		files = volume(&pod.Spec, s, &policy.Files)
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", pod.Spec.InitContainers}, {"containers", pod.Spec.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			field := "spec." + list.name + "{" + c.Name + "}"
			var folder string
			if files != nil {
				folder = mount(c, field, files.Name, policy.Files.MountPath, report)
			}
			proxied := proxy && addProxy(c, field, s, policy, report)
			if folder != "" && (proxied || len(s.configurations) > 0) {
				trust(c, folder, &policy.Files)
				lead(c, folder, s.configurations, files, &policy.Files)
			}
		}
	}
}

// volume returns the Pod's CSI volume, which it adds where the user has none.
func volume(spec *corev1.PodSpec, s *settings, files *v1alpha1.FilesConfiguration) *corev1.Volume {
	taken := map[string]bool{}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.CSI != nil && v.CSI.Driver == v1alpha1.CSIDriver {
			return v
		}
		taken[v.Name] = true
	}
	name := volumeName
	for i := 2; taken[name]; i++ {
		name = volumeName + "-" + strconv.Itoa(i)
	}
	readOnly := true
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		CSI: &corev1.CSIVolumeSource{Driver: v1alpha1.CSIDriver, ReadOnly: &readOnly, VolumeAttributes: attributes(s, files)},
	}})
	return &spec.Volumes[len(spec.Volumes)-1]
}

func attributes(s *settings, files *v1alpha1.FilesConfiguration) map[string]string {
	all := map[string]string{}
	if s.named {
		all[v1alpha1.VolumeConnectors] = strings.Join(s.connectors, ",")
	}
	if len(s.configurations) > 0 {
		all[v1alpha1.VolumeConfigurations] = strings.Join(s.configurations, ",")
	}
	if files.MountPath != v1alpha1.DefaultMountPath {
		all[v1alpha1.VolumeMountPath] = files.MountPath
	}
	return all
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
		setDefault(c, name, folder+"/"+v1alpha1.FileBundle)
	}
	setDefault(c, "WGETRC", folder+"/"+v1alpha1.FileWget)
	if files.JavaTrustStore {
		setDefault(c, "JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore="+folder+"/"+v1alpha1.FileTrustStore+
			" -Djavax.net.ssl.trustStoreType=PKCS12")
	}
}

// lead tells tools where the files of the configurations are that were asked for, as far as the volume has them.
func lead(c *corev1.Container, folder string, configurations []string, volume *corev1.Volume, files *v1alpha1.FilesConfiguration) {
	has := entries(volume.CSI.VolumeAttributes[v1alpha1.VolumeConfigurations])
	for _, v := range files.Variables {
		if slices.Contains(configurations, v.Configuration) && slices.Contains(has, v.Configuration) {
			setDefault(c, v.Name, strings.ReplaceAll(v.Value, v1alpha1.FilesFolder, folder))
		}
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
