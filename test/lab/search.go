package lab

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// Search looks for a secret text in all the places where it may not be.
type Search struct {
	lab     *Lab
	needles [][]byte
	// Looked counts what was searched, and Bytes how much that was.
	Looked map[string]int
	Bytes  int64
	// Found names where the text was found.
	Found []string
}

// NewSearch searches for the password of a credential: as it is, and in base64,
// alone and as HTTP's Basic has it.
func (l *Lab) NewSearch(c Credential) *Search {
	basic := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	return &Search{lab: l, Looked: map[string]int{}, needles: [][]byte{
		[]byte(c.Password), []byte(base64.StdEncoding.EncodeToString([]byte(c.Password))), []byte(basic),
		[]byte(base64.StdEncoding.EncodeToString([]byte(basic))),
	}}
}

// In searches one text, and reports whether the password is in it.
func (s *Search) In(kind, name string, text []byte) bool {
	s.Looked[kind]++
	s.Bytes += int64(len(text))
	for _, needle := range s.needles {
		if bytes.Contains(text, needle) {
			s.Found = append(s.Found, kind+" "+name)
			return true
		}
	}
	return false
}

// Objects searches every Secret but one, and every Pod, ConfigMap, Event and Connector.
func (s *Search) Objects(ctx context.Context, but client.ObjectKey) error {
	for kind, list := range map[string]client.ObjectList{
		"Secret": &corev1.SecretList{}, "Pod": &corev1.PodList{}, "ConfigMap": &corev1.ConfigMapList{},
		"Event": &corev1.EventList{}, "Connector": &v1alpha1.ConnectorList{}, "Namespace": &corev1.NamespaceList{},
	} {
		if err := s.lab.Client.List(ctx, list); err != nil {
			return fmt.Errorf("list each %s: %w", kind, err)
		}
		err := eachItem(list, func(o client.Object) error {
			if kind == "Secret" && client.ObjectKeyFromObject(o) == but {
				return nil
			}
			return s.object(kind, o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// object searches an object as JSON, and a Secret's values decoded too.
func (s *Search) object(kind string, o client.Object) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if secret, ok := o.(*corev1.Secret); ok {
		for _, value := range secret.Data {
			text = append(append(text, '\n'), value...)
		}
	}
	s.In(kind, client.ObjectKeyFromObject(o).String(), text)
	return nil
}

// Logs searches the logs of every container of a namespace.
func (s *Search) Logs(ctx context.Context, namespace string) error {
	pods, err := s.lab.Pods(ctx, namespace)
	if err != nil {
		return err
	}
	for i := range pods {
		log, err := s.lab.Clientset.CoreV1().Pods(namespace).GetLogs(pods[i].Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("read the log of Pod '%s': %w", pods[i].Name, err)
		}
		s.In("log", pods[i].Name, log)
	}
	return nil
}

// Files searches every regular file below the folders. Files that go meanwhile are none.
func (s *Search) Files(folders ...string) error {
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			s.In("file", path, text)
			return nil
		})
		if err != nil {
			return fmt.Errorf("search '%s': %w", folder, err)
		}
	}
	return nil
}

func eachItem(list client.ObjectList, do func(client.Object) error) error {
	return meta.EachListItem(list, func(o runtime.Object) error {
		object, ok := o.(client.Object)
		if !ok {
			return fmt.Errorf("a list of %T", o)
		}
		return do(object)
	})
}
