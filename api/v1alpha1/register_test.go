package v1alpha1_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"berth.dev/berth/api/v1alpha1"
)

func TestAddToScheme(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for kind, object := range map[string]runtime.Object{
		"Connector":          &v1alpha1.Connector{},
		"ConnectorList":      &v1alpha1.ConnectorList{},
		"ConnectorClass":     &v1alpha1.ConnectorClass{},
		"ConnectorClassList": &v1alpha1.ConnectorClassList{},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			kinds, _, err := scheme.ObjectKinds(object)
			if want := v1alpha1.GroupVersion().WithKind(kind); err != nil || len(kinds) != 1 || kinds[0] != want {
				t.Errorf("kinds = %v, %v, want %s", kinds, err, want)
			}
			if made, err := scheme.New(v1alpha1.GroupVersion().WithKind(kind)); err != nil || made.DeepCopyObject() == nil {
				t.Errorf("New = %v, %v", made, err)
			}
		})
	}
}
