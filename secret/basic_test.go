package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/utils/dump"

	"berth.dev/berth/secret"
)

func TestBasicIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const user, password = "robot-puller", "hunter2-hunter2"
	b := secret.NewBasic(user, password)
	printed := map[string]string{}
	for name, value := range map[string]any{
		"value": b, "pointer": &b, "slice": []secret.Basic{b}, "map": map[string]any{"b": b}, "field": struct{ B secret.Basic }{b}, "field pointer": struct{ B *secret.Basic }{&b},
		"unexported": struct{ b secret.Basic }{b}, "unexported pointer": &struct{ b *secret.Basic }{&b}, "unexported any": struct{ b any }{b},
	} {
		for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d %o %b %c %U %e %g %t %p") {
			printed[name+" "+verb] = fmt.Sprintf(verb, value)
		}
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		slog.New(slog.NewTextHandler(&logged, nil)).Info("", "b", value)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", slog.Group("g", "b", value))
		printed[name+" JSON"], printed[name+" log"], printed[name+" reflection"] = string(asJSON), logged.String(), dump.Pretty(value)
		printed[name+" error"] = fmt.Errorf("%v: %w", value, errors.ErrUnsupported).Error()
	}
	for how, text := range printed {
		for _, plain := range []string{user, password} {
			bytes := strings.Trim(fmt.Sprintf("%d", []byte(plain)), "[]")
			for _, form := range []string{plain, bytes, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), base64.StdEncoding.EncodeToString([]byte(plain))} {
				if strings.Contains(text, form) {
					t.Errorf("%s shows the credential: %s", how, text)
				}
			}
		}
	}
	for _, how := range []string{"value %v", "value %d", "value %#v", "field %v", "value JSON", "field JSON", "value log"} {
		if !strings.Contains(printed[how], "[redacted]") {
			t.Errorf("%s: %s", how, printed[how])
		}
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		credential     secret.Basic
		user, password string
		want           bool
	}{
		"credential": {credential: secret.NewBasic("robot$x", "a:b"), user: "robot$x", password: "a:b", want: true},
		"none":       {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
			r.Header.Set("Authorization", "Bearer of-the-client")
			tc.credential.Authorize(r)
			user, password, ok := r.BasicAuth()
			if user != tc.user || password != tc.password || ok != tc.want || ok != (r.Header["Authorization"] != nil) {
				t.Errorf("Authorization is %q", r.Header["Authorization"])
			}
		})
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		a, b secret.Basic
		want bool
	}{
		"same":             {a: secret.NewBasic("u", "p"), b: secret.NewBasic("u", "p"), want: true},
		"another user":     {a: secret.NewBasic("u", "p"), b: secret.NewBasic("v", "p")},
		"another password": {a: secret.NewBasic("u", "p"), b: secret.NewBasic("u", "q")},
		"none and some":    {b: secret.NewBasic("", "")},
		"none":             {want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.a.Equal(tc.b) != tc.want || tc.b.Equal(tc.a) != tc.want {
				t.Errorf("Equal is not %t", tc.want)
			}
		})
	}
}
