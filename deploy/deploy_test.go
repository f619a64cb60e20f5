// Package deploy_test holds what is deployed against the tools that read it.
package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// mostExposed is the figure of systemd-analyze above which a unit leaves its service more than it needs.
const mostExposed = 2.0

func TestUnitsAreFencedIn(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is missing in CI (apt-get install systemd)")
		}
		t.Skip("left out: systemd-analyze (apt-get install systemd)")
	}
	level := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`)
	for _, unit := range []string{"shoal-peer.service", "shoal-server.service"} {
		out, err := exec.Command("systemd-analyze", "--offline=true", "security", "--no-pager", unit).CombinedOutput()
		found := level.FindSubmatch(out)
		if err != nil || found == nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		if v, err := strconv.ParseFloat(string(found[1]), 64); err != nil || v > mostExposed {
			t.Errorf("%s: exposed by %s, at most %v", unit, found[1], mostExposed)
		}
	}
}
