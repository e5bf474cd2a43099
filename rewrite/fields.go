package rewrite

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// imageField is a place in a Pod where an image is named.
type imageField struct {
	// path as Kubernetes events spell it: by name, which does not move when a sidecar is put in front.
	path  string
	image *string
	// never: the image must be on the node already, so where it came from is of no matter.
	never bool
}

// imageFields yields the image fields of a Pod: containers of every kind, and
// image volumes (KEP-4639). An empty image is none: a controller of its own
// fills it in later.
func imageFields(spec *corev1.PodSpec) iter.Seq[imageField] {
	return func(yield func(imageField) bool) {
		_ = initImages(spec, yield) && containerImages(spec, yield) && ephemeralImages(spec, yield) && volumeImages(spec, yield)
	}
}

func initImages(spec *corev1.PodSpec, yield func(imageField) bool) bool {
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if !yieldImage(yield, "initContainers", c.Name, "image", &c.Image, c.ImagePullPolicy) {
			return false
		}
	}
	return true
}

func containerImages(spec *corev1.PodSpec, yield func(imageField) bool) bool {
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if !yieldImage(yield, "containers", c.Name, "image", &c.Image, c.ImagePullPolicy) {
			return false
		}
	}
	return true
}

func ephemeralImages(spec *corev1.PodSpec, yield func(imageField) bool) bool {
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		if !yieldImage(yield, "ephemeralContainers", c.Name, "image", &c.Image, c.ImagePullPolicy) {
			return false
		}
	}
	return true
}

func volumeImages(spec *corev1.PodSpec, yield func(imageField) bool) bool {
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.Image != nil && !yieldImage(yield, "volumes", v.Name, "image.reference", &v.Image.Reference, v.Image.PullPolicy) {
			return false
		}
	}
	return true
}

func yieldImage(yield func(imageField) bool, list, name, field string, image *string, policy corev1.PullPolicy) bool {
	if *image == "" {
		return true
	}
	return yield(imageField{
		path: "spec." + list + "{" + name + "}." + field, image: image,
		never: policy == corev1.PullNever,
	})
}

// changedFields returns the fields of after whose image is not as before.
func changedFields(before, after *corev1.PodSpec) []imageField {
	was := map[string]string{}
	for field := range imageFields(before) {
		was[field.path] = *field.image
	}
	var changed []imageField
	for field := range imageFields(after) {
		if was[field.path] != *field.image {
			changed = append(changed, field)
		}
	}
	return changed
}
