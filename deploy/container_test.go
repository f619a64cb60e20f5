//go:build linux

package deploy_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// There is no container engine where these tests run: what the image says to run is run as an engine runs it, as its user, in a root folder in
// which there is nothing but the program, and the image's folders.
func TestWhatTheImageRunsRunsInNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: root, for another root folder")
	}
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	said := func(word string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^`+word+` (.*)$`).FindAllStringSubmatch(string(text), -1)
		if m == nil {
			t.Fatalf("it has no %s", word)
		}
		return m[len(m)-1][1]
	}
	list := func(word string) (out []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(said(word)), &out); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		return out
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(root, "shoal"), "./cmd/shoal")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for dir := filepath.Dir(root); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755)
	}
	for _, dir := range list("VOLUME") {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(root, dir), 65532, 65532); err != nil {
			t.Fatal(err)
		}
	}
	if said("USER") != "65532:65532" {
		t.Errorf("it runs as %s", said("USER"))
	}
	run := func(args ...string) *exec.Cmd {
		c := exec.Command(args[0], args[1:]...)
		c.Path, c.Err = filepath.Join("/", args[0]), nil
		c.Dir, c.Env = said("WORKDIR"), strings.Fields(said("ENV"))
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}, Pdeathsig: syscall.SIGKILL}
		return c
	}
	entry := list("ENTRYPOINT")
	server := run(append(entry, "server", "--json", "--listen", "127.0.0.1:0", "--no-lan")...)
	until(t, server, `"t":"listening"`) // which makes a swarm
	peer := run(append(append(entry, list("CMD")...), "--json", "--listen", "127.0.0.1:0", "--server-listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--no-lan")...)
	check := strings.TrimPrefix(said("HEALTHCHECK"), "CMD ")
	var health []string
	if err := json.Unmarshal([]byte(check), &health); err != nil {
		t.Fatal(err)
	}
	until(t, peer, `"t":"running"`, func() {
		for end := time.Now().Add(time.Minute); ; { // an engine asks again, too: its own server may not have let it in yet
			out, err := run(health...).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Errorf("%v: %v\n%s", health, err, out)
				return
			}
		}
	})
	if peer.ProcessState.ExitCode() != 0 {
		t.Errorf("%s ended it with %d", said("STOPSIGNAL"), peer.ProcessState.ExitCode())
	}
}

// until runs a program until it prints a text, does things, and ends it as an engine does.
func until(t *testing.T, c *exec.Cmd, text string, do ...func()) {
	t.Helper()
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	seen := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !seen && strings.Contains(lines.Text(), text) {
			seen = true
			for _, f := range do {
				f()
			}
			_ = c.Process.Signal(syscall.SIGTERM)
		}
	}
	if _ = c.Wait(); !seen {
		t.Fatalf("%v never printed %s", c.Args, text)
	}
}
