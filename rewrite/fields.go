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

// imageFields yields the image fields of a Pod. An empty image is none: a
// controller of its own fills it in later.
func imageFields(spec *corev1.PodSpec) iter.Seq[imageField] {
	return func(yield func(imageField) bool) {
		for i := range spec.InitContainers {
			c := &spec.InitContainers[i]
			if !yieldContainer(yield, "initContainers", c.Name, &c.Image, c.ImagePullPolicy) {
				return
			}
		}
		for i := range spec.Containers {
			c := &spec.Containers[i]
			if !yieldContainer(yield, "containers", c.Name, &c.Image, c.ImagePullPolicy) {
				return
			}
		}
	}
}

func yieldContainer(yield func(imageField) bool, list, name string, image *string, policy corev1.PullPolicy) bool {
	if *image == "" {
		return true
	}
	return yield(imageField{
		path: "spec." + list + "{" + name + "}.image", image: image,
		never: policy == corev1.PullNever,
	})
}
