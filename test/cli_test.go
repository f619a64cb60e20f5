//go:build linux

package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestADigestVerifiesADownload(t *testing.T) {
	t.Parallel()
	path := file(t, 2*chunk+2)
	name := filepath.Base(path)
	right := digest(t, path)
	s := newSwarm(t)
	s.share(path)
	dir := t.TempDir()
	if done := s.get(name, dir, "--sha256", right).succeeds(); !done.Verified || done.Already {
		t.Errorf("told of %+v, want it verified", done)
	}
	sameContent(t, filepath.Join(dir, name), path)

	s.server.kill() // a file that is there and right needs nobody
	if done := s.get(name, dir, "--sha256", right).succeeds(); !done.Verified || !done.Already || done.Fetched != 0 {
		t.Errorf("told of %+v, want it there already", done)
	}
}

func TestAWrongDigestGivesNoFileAndKeepsTheDataForTheRightOne(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"", "--chunk-files"} {
		t.Run("get "+layout, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(layout)
			path := file(t, 2*chunk+2)
			name := filepath.Base(path)
			s := newSwarm(t)
			s.share(path)
			dir := t.TempDir()
			s.get(name, dir, append(args, "--sha256", strings.Repeat("0", 64))...).fails(6, "E-VERIFY")
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Error("a file has the name")
			}
			done := s.get(name, dir, append(args, "--sha256", digest(t, path))...).succeeds()
			if done.Fetched != 0 || done.Resumed != done.Size || !done.Verified {
				t.Errorf("told of %+v, want nothing fetched", done)
			}
			sameContent(t, filepath.Join(dir, name), path)
			holdsOnly(t, dir, name)
		})
	}
}

func TestAnExistingFileIsReplacedOnlyWhenToldSo(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	s.share(path)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.get(name, dir).fails(11, "E-EXISTS")
	s.get(name, dir, "--sha256", digest(t, path)).fails(11, "E-EXISTS")
	holdsOnly(t, dir, name)
	if b, _ := os.ReadFile(filepath.Join(dir, name)); string(b) != "precious" {
		t.Fatalf("the file is now %q", b)
	}
	s.get(name, dir, "--overwrite").succeeds()
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

func TestEndsThatScriptsCanTellApart(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	path := file(t, 1)
	s.share(path)
	name := filepath.Base(path)
	dir := t.TempDir()
	nobody := unusedAddress(t)
	for what, c := range map[string]struct {
		args []string
		exit int
		code string
	}{
		"name not found":     {s.getArgs("missing.img", dir), 3, "E-NAME-NOT-FOUND"},
		"no such folder":     {s.getArgs(name, filepath.Join(dir, "missing", "x")), 3, "E-FILE-NOT-FOUND"},
		"no server, get":     {[]string{"get", "--classic", "--json", "--server", nobody, name, "-o", dir}, 5, "E-NO-SERVER"},
		"no server, share":   {[]string{"share", "--classic", "--json", "--server", nobody, path}, 5, "E-NO-SERVER"},
		"no server, peers":   {[]string{"peers", "--classic", "--json", "--server", nobody}, 5, "E-NO-SERVER"},
		"no listing":         {[]string{"ls", "--classic", "--json"}, 12, "E-PROTOCOL"},
		"without --classic":  {[]string{"get", "--json", "--server", s.addr, name, "-o", dir}, 9, "E-NOT-MEMBER"},
		"bad name":           {s.getArgs("../evil.img", dir), 2, "E-USAGE"},
		"bad digest":         {s.getArgs(name, dir, "--sha256", "12"), 2, "E-USAGE"},
		"unknown flag":       {s.getArgs(name, dir, "--no-such-flag"), 2, "E-USAGE"},
		"unknown command":    {[]string{"--json", "destroy"}, 2, "E-USAGE"},
		"foreign address":    {[]string{"share", "--classic", "--json", "--server", s.addr, path, "--advertise", "192.0.2.1"}, 2, "E-USAGE"},
		"nothing to share":   {[]string{"share", "--classic", "--json", "--server", s.addr, filepath.Join(dir, "missing")}, 3, "E-FILE-NOT-FOUND"},
		"from nobody known":  {s.getArgs(name, dir, "--from", "127.0.0.1:1"), 3, "E-NAME-NOT-FOUND"},
		"server port in use": {[]string{"server", "--classic", "--json", "--listen", s.addr}, 2, "E-LISTEN"},
	} {
		t.Run(what, func(t *testing.T) {
			command{args: c.args}.start(t).fails(c.exit, c.code)
			holdsOnly(t, dir)
		})
	}
	t.Run("for people", func(t *testing.T) {
		p := command{args: []string{"get", "--classic", "--server", s.addr, "missing.img", "-o", dir}}.start(t)
		if code := p.exit(); code != 3 {
			t.Errorf("exit code %d, want 3", code)
		}
		out, errs := p.printed()
		if out != "" || !strings.HasPrefix(errs, "error[E-NAME-NOT-FOUND]: ") ||
			!strings.Contains(errs, "\n  cause: ") || !strings.Contains(errs, "\n  next:  ") {
			t.Errorf("stdout %q, stderr %q", out, errs)
		}
	})
}

func TestAUsersMistakeIsNeverCalledABugOfOurs(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	path := file(t, 1)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.img")
	write(t, empty, 0, 0)
	share := func(files ...string) []string {
		return append([]string{"share", "--classic", "--json", "--server", s.addr, "--listen", "127.0.0.1:0"}, files...)
	}
	for what, args := range map[string][]string{
		"an empty file":         share(empty),
		"a folder":              share(dir),
		"a device":              share("/dev/null"),
		"the same name twice":   share(path, path),
		"a folder that is none": s.getArgs("a.img", filepath.Join(path, "a.img")),
	} {
		t.Run(what, func(t *testing.T) {
			p := command{args: args}.start(t)
			if code := p.exit(); code == 0 || code == 1 {
				t.Errorf("exit code %d", code)
			}
			if e := p.await("an error", is("error")); e.Code == "E-INTERNAL" {
				t.Errorf("called %s", e.Code)
			}
		})
	}
}

func TestAFolderWithoutPermissionIsSaidSo(t *testing.T) {
	t.Parallel()
	path := file(t, 1)
	s := newSwarm(t)
	s.share(path)
	dir, err := os.MkdirTemp(suite, "not-writable-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	c := command{args: s.getArgs(filepath.Base(path), dir)}
	if os.Geteuid() == 0 {
		c.user = 65534 // root may write everywhere
		c.env = []string{"SHOAL_STATE=" + nobodysState(t)}
	}
	if e := c.start(t).fails(8, "E-PERM"); !strings.Contains(e.What, dir) {
		t.Errorf("it says %q", e.What)
	}
	holdsOnly(t, dir)
}

// nobodysState returns a state folder of the user 65534.
func nobodysState(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(suite, "nobody-")
	if err == nil {
		err = os.Chown(dir, 65534, 65534)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "state")
}

func TestAFileLargerThanTheUsersLimitIsSaidSo(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	s := newSwarm(t)
	s.share(path)
	dir := t.TempDir()
	c := command{args: s.getArgs(filepath.Base(path), dir), within: []string{"sh", "-c", `ulimit -f 1000; exec "$@"`, "sh"}}
	c.start(t).fails(7, "E-FILE-TOO-BIG")
	holdsOnly(t, dir)
}

// disk mounts a file system of its own, which only its keeper sees, and goes with it. It returns a path to it that works
// for root from outside.
func disk(t *testing.T, options string) string {
	t.Helper()
	requireSpaces(t, syscall.CLONE_NEWNS, "sh", "mount")
	at := t.TempDir()
	keeper := command{
		path: "sh", args: []string{"-c", `mount --make-rprivate / && mount -t tmpfs -o "$1" tmpfs "$2" && echo '{"t":"ready"}' && read -r _`, "sh", options, at},
		stdin: true, spaces: syscall.CLONE_NEWNS,
	}.start(t)
	keeper.await("ready", is("ready"))
	return fmt.Sprintf("/proc/%d/root%s", keeper.cmd.Process.Pid, at)
}

func TestAFullDiskIsSaidSo(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"", "--chunk-files"} {
		t.Run("get "+layout, func(t *testing.T) {
			t.Parallel()
			dir := disk(t, "size=1m")
			path := file(t, chunk+1)
			s := newSwarm(t)
			s.share(path)
			s.get(filepath.Base(path), dir, strings.Fields(layout)...).fails(7, "E-NO-SPACE")
			holdsOnly(t, dir)
		})
	}
}

// Chunk files do not take their space beforehand, so that others may take it.
func TestADiskThatFillsUpInMidDownloadEndsItAndItResumes(t *testing.T) {
	t.Parallel()
	dir := disk(t, "size=200m")
	path := file(t, 2*chunk+2)
	name := filepath.Base(path)
	s := newSwarm(t)
	_, px := s.shareThrough(path)
	px.Allow(chunk + chunk/4)
	get := s.get(name, dir, "--chunk-files")
	px.awaitHold(t)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	if _, err := io.Copy(filler, zeros{}); err == nil {
		t.Fatal("an endless file was written")
	}
	px.Allow(-1)
	get.fails(7, "E-NO-SPACE")
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	if done := s.get(name, dir, "--chunk-files").succeeds(); done.Resumed != chunk {
		t.Errorf("resumed with %d bytes, want %d", done.Resumed, chunk)
	}
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

func TestAReadOnlyDiskIsSaidSo(t *testing.T) {
	t.Parallel()
	dir := disk(t, "size=1m,ro")
	path := file(t, 1)
	s := newSwarm(t)
	s.share(path)
	s.get(filepath.Base(path), dir).fails(8, "E-READONLY")
}

// interactive starts a peer that asks on its standard input, at an address of its own and a port that is free there.
func interactive(t *testing.T, s *swarm, answers ...string) *process {
	t.Helper()
	host, port, _ := net.SplitHostPort(unusedAddress(t))
	p := command{args: []string{"peer", "--classic", "--interactive", "--server", s.addr}, stdin: true}.start(t)
	for _, line := range append([]string{host, port}, answers...) {
		if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestTheOriginalsQuestionsShareAndDownload(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"Enter", "end of input"} {
		t.Run("until "+end, func(t *testing.T) {
			t.Parallel()
			path := file(t, chunk+1)
			name := filepath.Base(path)
			s := newSwarm(t)
			sharer := interactive(t, s, path, file(t, 1), "", "")
			eventually(t, "the sharer is in the swarm", func() bool { return len(s.peers()) == 1 })
			dir := t.TempDir()
			getter := interactive(t, s, "", name, dir)
			eventually(t, "the file is there", func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil })
			sameContent(t, filepath.Join(dir, name), path)
			// Both share what they have, until they are told to end.
			for _, p := range []*process{sharer, getter} {
				eventually(t, "both are in the swarm", func() bool { return len(s.peers()) > 0 })
				if !p.running() {
					t.Fatalf("%s has ended", p.what)
				}
				if end == "Enter" {
					_, _ = io.WriteString(p.stdin, "\n")
				} else {
					p.stdin.Close()
				}
				if code := p.exit(); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
				if p == sharer {
					again := t.TempDir()
					s.get(name, again).succeeds()
					sameContent(t, filepath.Join(again, name), path)
				}
			}
			holdsOnly(t, dir, name)
		})
	}
}

func TestAnInteractivePeerThatSharesNothingAndIsAloneEndsByItself(t *testing.T) {
	t.Parallel()
	if code := interactive(t, newSwarm(t), "", "").exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestAScriptMayFeedAllAnswersAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	s.share(path)
	dir := t.TempDir()
	p := interactive(t, s, "", name, dir)
	p.stdin.Close()
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	sameContent(t, filepath.Join(dir, name), path)
}

func TestTheDemoProvesItselfAndCleansUp(t *testing.T) {
	t.Parallel()
	for _, given := range []bool{true, false} {
		t.Run(fmt.Sprintf("file given: %v", given), func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			args := []string{"demo", "--classic", "--json", "--size", "80MB"}
			if given {
				args = append(args, file(t, 2*chunk+2))
			}
			p := command{args: args, env: []string{"TMPDIR=" + tmp}}.start(t)
			p.await("the proof", is("demo"))
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			holdsOnly(t, tmp)
		})
	}
}

func TestAStoppedDemoCleansUp(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	p := command{args: []string{"demo", "--classic", "--size", "2GB"}, env: []string{"TMPDIR=" + tmp}}.start(t)
	eventually(t, "the demo has begun", func() bool { entries, _ := os.ReadDir(tmp); return len(entries) > 0 })
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	holdsOnly(t, tmp)
}
