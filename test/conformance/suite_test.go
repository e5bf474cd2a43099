package conformance_test

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/test/loopback"
)

// envSuite is the compiled suite of the OCI distribution specification.
const envSuite = "BERTH_OCI_SUITE"

// TestSuite: the tests of the OCI distribution specification end through Berth as they end without.
func TestSuite(t *testing.T) {
	program := os.Getenv(envSuite)
	if program == "" {
		t.Skip("SKIPPED: needs the suite of the OCI distribution specification; run it by: make conformance")
	}
	for kind, tc := range map[string]struct {
		start  func(*loopback.Site) *loopback.Registry
		passed int // at least
	}{
		"basic":     {(*loopback.Site).Basic, 60},
		"token":     {func(s *loopback.Site) *loopback.Registry { return s.Token("") }, 60},
		"referrers": {(*loopback.Site).Referrers, 60},
	} {
		t.Run(kind, func(t *testing.T) {
			s := loopback.New(t)
			r := tc.start(s)
			b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
			want := suite(s, program, straight(s, r), "")
			got := suite(s, program, through(s, b, "registry", false), loopback.Below("registry"))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-straight +through Berth:\n%s", diff)
			}
			counts := map[string]int{}
			for _, outcome := range got {
				counts[outcome]++
			}
			t.Logf("of %d tests: %v", len(got), counts)
			if counts["passed"] < tc.passed {
				t.Errorf("%d tests passed, want %d", counts["passed"], tc.passed)
			}
		})
	}
}

// suite runs the suite at a door, where the names of repositories begin with below, and returns how each test ended.
func suite(s *loopback.Site, program string, d *door, below string) map[string]string {
	s.Helper()
	report := s.Path("report-" + d.root)
	s.OK(os.Mkdir(report, 0o755))
	cmd := exec.CommandContext(s.Context(), program)
	cmd.Dir = report
	cmd.Env = append(
		os.Environ(), "OCI_ROOT_URL="+d.origin, "OCI_USERNAME="+d.username, "OCI_PASSWORD="+d.password, "OCI_REPORT_DIR="+report,
		"OCI_NAMESPACE="+below+d.root+"/app", "OCI_CROSSMOUNT_NAMESPACE="+below+d.root+"/other",
		"OCI_TEST_PULL=1", "OCI_TEST_PUSH=1", "OCI_TEST_CONTENT_DISCOVERY=1", "OCI_TEST_CONTENT_MANAGEMENT=1",
	)
	out, _ := cmd.CombinedOutput() // a test that fails straight may fail through Berth too
	content, err := os.ReadFile(filepath.Join(report, "junit.xml"))
	if err != nil {
		s.Fatalf("the suite wrote no report: %v\n%s", err, out)
	}
	var junit struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
		} `xml:"testsuite>testcase"`
	}
	s.OK(xml.Unmarshal(content, &junit))
	outcomes := map[string]string{}
	for _, c := range junit.Cases {
		outcomes[strings.ReplaceAll(strings.ReplaceAll(c.Name, below, ""), d.root, "{root}")] = c.Status
	}
	return outcomes
}
