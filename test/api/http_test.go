package api_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"berth.dev/berth/webhook"
)

// TestMalformed: what the API server would never send is refused, and nothing of it gets into a log.
func TestMalformed(t *testing.T) {
	w := enter(t)
	const secret = "MARKER-of-a-secret"
	review := func(request string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":` + request + `}`
	}
	pods := func(operation, more string) string {
		return review(`{"uid":"1","operation":"` + operation + `","namespace":"default","resource":{"version":"v1","resource":"pods"},` + more + `}`)
	}
	// The certificate is for the Service's name; who answers is of no matter here.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for name, tc := range map[string]struct {
		method, contentType, body string
		allowed                   bool // there is nothing to refuse
	}{
		"empty":                  {"POST", "application/json", "", false},
		"GET":                    {"GET", "application/json", "", false},
		"PUT":                    {"PUT", "application/json", pods("CREATE", `"object":"`+secret+`"`), false},
		"another content type":   {"POST", "text/plain", pods("CREATE", `"object":{}`), false},
		"no content type":        {"POST", "", pods("CREATE", `"object":{}`), false},
		"10 MiB":                 {"POST", "application/json", pods("CREATE", `"object":{"metadata":{"name":"`+strings.Repeat(secret, 10<<20/len(secret))+`"}}`), false},
		"no JSON":                {"POST", "application/json", secret, false},
		"cut":                    {"POST", "application/json", pods("CREATE", `"object":{"metadata":{"name":"`+secret)[:200], false},
		"deep":                   {"POST", "application/json", pods("CREATE", `"object":`+strings.Repeat(`[`, 1<<20)), false},
		"another kind":           {"POST", "application/json", `{"apiVersion":"v1","kind":"Secret","stringData":{"a":"` + secret + `"}}`, true},
		"another version":        {"POST", "application/json", `{"apiVersion":"admission.k8s.io/v9","kind":"AdmissionReview","request":"` + secret + `"}`, false},
		"request of text":        {"POST", "application/json", review(`"` + secret + `"`), false},
		"object of text":         {"POST", "application/json", pods("CREATE", `"object":"`+secret+`"`), false},
		"no object":              {"POST", "application/json", pods("CREATE", `"object":null`), false},
		"spec of text":           {"POST", "application/json", pods("CREATE", `"object":{"spec":"`+secret+`"}`), false},
		"number for a name":      {"POST", "application/json", pods("CREATE", `"object":{"spec":{"containers":[{"name":`+strings.Repeat("7", 40)+`}]}}`), false},
		"containers of text":     {"POST", "application/json", pods("CREATE", `"object":{"spec":{"containers":["`+secret+`"]}}`), false},
		"update without the old": {"POST", "application/json", pods("UPDATE", `"object":{}`), false},
		"old of text":            {"POST", "application/json", pods("UPDATE", `"object":{},"oldObject":"`+secret+`"`), false},
		"unknown namespace":      {"POST", "application/json", strings.Replace(pods("UPDATE", `"object":{},"oldObject":{}`), "default", secret, 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.berth.log.String())
			request, err := http.NewRequestWithContext(w.ctx, tc.method, "https://127.0.0.1:"+strconv.Itoa(w.berth.port)+webhook.Path, strings.NewReader(tc.body))
			w.ok(err)
			request.Header.Set("Content-Type", tc.contentType)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			w.ok(err)
			var answer admissionv1.AdmissionReview
			if response.StatusCode < 400 && (json.Unmarshal(body, &answer) != nil || answer.Response == nil || answer.Response.Allowed != tc.allowed || len(answer.Response.Patch) > 0) {
				t.Errorf("status %d: %s", response.StatusCode, body)
			}
			log := w.berth.log.String()[before:]
			for _, bad := range []string{secret, "7777777", "panic"} {
				if strings.Contains(log, bad) {
					t.Errorf("the log holds %q: %.2000s", bad, log)
				}
			}
		})
	}
}
