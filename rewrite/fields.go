package rewrite

import corev1 "k8s.io/api/core/v1"

// imageField is a place in a Pod where an image is named.
type imageField struct {
	// path as Kubernetes events spell it: by name, which does not move when a sidecar is put in front.
	path  string
	image *string
	// never: the image must be on the node already, so where it came from is of no matter.
	never bool
}

// imageFields returns the image fields of a Pod: containers of every kind, and
// image volumes (KEP-4639). An empty image is none: a controller of its own
// fills it in later.
func imageFields(spec *corev1.PodSpec) []imageField {
	var fields []imageField
	add := func(list, name, field string, image *string, policy corev1.PullPolicy) {
		if *image == "" {
			return
		}
		path := "spec." + list + "{" + name + "}." + field
		fields = append(fields, imageField{path: path, image: image, never: policy == corev1.PullNever})
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		add("initContainers", c.Name, "image", &c.Image, c.ImagePullPolicy)
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		add("containers", c.Name, "image", &c.Image, c.ImagePullPolicy)
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		add("ephemeralContainers", c.Name, "image", &c.Image, c.ImagePullPolicy)
	}
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; v.Image != nil {
			add("volumes", v.Name, "image.reference", &v.Image.Reference, v.Image.PullPolicy)
		}
	}
	return fields
}

// changedFields returns the fields of after whose image is not as before.
func changedFields(before, after *corev1.PodSpec) []imageField {
	was := map[string]string{}
	for _, field := range imageFields(before) {
		was[field.path] = *field.image
	}
	var changed []imageField
	for _, field := range imageFields(after) {
		if was[field.path] != *field.image {
			changed = append(changed, field)
		}
	}
	return changed
}
