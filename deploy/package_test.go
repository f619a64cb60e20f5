//go:build linux

package deploy_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// require leaves the test out when something is missing that not every machine has. In CI that is a failure.
func require(t *testing.T, has bool, missing string) {
	t.Helper()
	switch {
	case has:
	case os.Getenv("CI") == "true":
		t.Fatal("missing in CI: " + missing)
	default:
		t.Skip("left out: " + missing)
	}
}

func requireTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		require(t, err == nil, "the tool "+tool)
	}
}

// packages makes dist/ of a copy of the source, for this system alone, and returns where it is.
func packages(t *testing.T, env ...string) (dist string) {
	t.Helper()
	dir := t.TempDir()
	list, err := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	require(t, err == nil, "the source's repository")
	for name := range strings.SplitSeq(strings.Trim(string(list), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o600) // packages do not depend on who has checked out the source, and how
		if fi, _ := os.Stat(filepath.Join("..", name)); fi.Mode()&0o100 != 0 {
			mode = 0o700
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The tool that makes deb and rpm is built once.
	tools, err := filepath.Abs("../.tools")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(tools, filepath.Join(dir, ".tools")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "scripts", "package"))
	cmd.Env = append(append(os.Environ(), "SYSTEMS=linux/amd64", "VERSION=1.2.3", "COMMIT=0123456789abcdef", "SOURCE_DATE_EPOCH=1700000000", "GOTOOLCHAIN=local"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/package: %v\n%s", err, out)
	}
	return filepath.Join(dir, "dist")
}

// output runs a command, and returns what it printed.
func output(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

func TestPackages(t *testing.T) {
	requireTools(t, "git", "tar", "gzip", "zip", "dpkg-deb")
	dist := packages(t)
	deb := filepath.Join(dist, "shoal_1.2.3_amd64.deb")
	t.Run("are the same bytes wherever they are made", func(t *testing.T) {
		env := []string{"TZ=Asia/Tokyo", "LANG=de_DE.UTF-8"}
		if os.Getenv("CI") == "true" {
			env = append(env, "GOCACHE="+t.TempDir()) // slow: nothing is taken from the first
		}
		again := packages(t, env...)
		names, err := os.ReadDir(dist)
		if err != nil || len(names) != 5 { // archive, deb, rpm, what it is made of, sums
			t.Fatalf("dist has %v, %v", names, err)
		}
		for _, n := range names {
			a, errA := os.ReadFile(filepath.Join(dist, n.Name()))
			b, errB := os.ReadFile(filepath.Join(again, n.Name()))
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs (%d and %d bytes, %v, %v)", n.Name(), len(a), len(b), errA, errB)
			}
		}
		output(t, "sh", "-c", "cd '"+dist+"' && sha256sum -c SHA256SUMS")
	})
	t.Run("hold what they should", func(t *testing.T) { holdWhatTheyShould(t, dist, deb) })
	t.Run("come and go", func(t *testing.T) { comeAndGo(t, deb) })
}

func holdWhatTheyShould(t *testing.T, dist, deb string) {
	list := output(t, "dpkg-deb", "-c", deb)
	for name, mode := range map[string]string{
		"./usr/bin/shoal": "-rwxr-xr-x",
		"./usr/lib/systemd/system/shoal-peer.service":      "-rw-r--r--",
		"./usr/lib/systemd/system/shoal-server.service":    "-rw-r--r--",
		"./usr/lib/sysusers.d/shoal.conf":                  "-rw-r--r--",
		"./usr/lib/tmpfiles.d/shoal.conf":                  "-rw-r--r--",
		"./etc/shoal/peer.toml":                            "-rw-r--r--",
		"./usr/share/man/man1/shoal-get.1.gz":              "-rw-r--r--",
		"./usr/share/bash-completion/completions/shoal":    "-rw-r--r--",
		"./usr/share/zsh/vendor-completions/_shoal":        "-rw-r--r--",
		"./usr/share/fish/vendor_completions.d/shoal.fish": "-rw-r--r--",
		"./usr/share/doc/shoal/copyright":                  "-rw-r--r--",
	} {
		if !slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool {
			return strings.HasPrefix(line, mode+" root/root") && strings.HasSuffix(line, " "+name)
		}) {
			t.Errorf("the deb has no %s of mode %s:\n%s", name, mode, list)
		}
	}
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	for _, unit := range []string{"shoal-peer", "shoal-server"} {
		b, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system", unit+".service"))
		if err != nil || !bytes.Contains(b, []byte("ExecStart=/usr/bin/shoal ")) {
			t.Errorf("%s does not start the program of the package: %v\n%s", unit, err, b)
		}
	}
	for _, what := range []string{"conffiles", "postinst", "prerm", "postrm"} {
		text := output(t, "dpkg-deb", "-I", deb, what)
		if what == "conffiles" && strings.TrimSpace(text) != "/etc/shoal/peer.toml" {
			t.Errorf("the conffiles are %q", text)
		}
		for _, verb := range []string{"enable", "start", "restart", "try-restart"} {
			if strings.Contains(text, "systemctl "+verb) {
				t.Errorf("%s has systemctl %s: no service is started unasked", what, verb)
			}
		}
	}
	if v := output(t, filepath.Join(root, "usr/bin/shoal"), "version", "--json"); !strings.Contains(v, `"version":"1.2.3","revision":"0123456789abcdef","go":"go1.`) {
		t.Errorf("version says %s", v)
	}
	if kind := output(t, "go", "version", "-m", filepath.Join(root, "usr/bin/shoal")); !strings.Contains(kind, "CGO_ENABLED=0") || !strings.Contains(kind, "-trimpath=true") {
		t.Errorf("the program is built so:\n%s", kind)
	}
	if _, err := exec.LookPath("rpm"); err == nil || os.Getenv("CI") == "true" {
		rpm := filepath.Join(dist, "shoal-1.2.3-1.x86_64.rpm")
		if files := output(t, "rpm", "-qpl", rpm); !strings.Contains(files, "/usr/bin/shoal\n") || !strings.Contains(files, "/usr/share/zsh/site-functions/_shoal") {
			t.Errorf("the rpm has\n%s", files)
		}
		if conf := output(t, "rpm", "-qpc", rpm); strings.TrimSpace(conf) != "/etc/shoal/peer.toml" {
			t.Errorf("the rpm's configuration is %q", conf)
		}
	}
	if tar := output(t, "tar", "-tzvf", filepath.Join(dist, "shoal-1.2.3-linux-amd64.tar.gz")); !strings.Contains(tar, "-rwxr-xr-x 0/0") || !strings.Contains(tar, "/man/shoal-get.1\n") {
		t.Errorf("the archive has\n%s", tar)
	}
}

// changes is run in a copy of this machine's files that vanishes with its last process: it installs, looks, removes, and looks.
const changes = `set -eu
mount -t tmpfs none "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cp "$2" "$1/root/shoal.deb"
mount -t proc none "$1/root/proc"
exec chroot "$1/root" sh -euxc '
dpkg --purge shoal
dpkg -i /shoal.deb
test "$(command -v shoal)" = /usr/bin/shoal
shoal version
id shoal
test "$(stat -c %U:%a /srv/shoal)" = shoal:755
test ! -e /etc/systemd/system/multi-user.target.wants/shoal-peer.service
test ! -e /etc/systemd/system/multi-user.target.wants/shoal-server.service
dpkg --verify shoal
echo "# mine" >>/etc/shoal/peer.toml
dpkg -i /shoal.deb
grep "# mine" /etc/shoal/peer.toml
dpkg -r shoal
test ! -e /usr/bin/shoal
test ! -e /usr/lib/systemd/system/shoal-peer.service
grep "# mine" /etc/shoal/peer.toml
test -d /srv/shoal
dpkg --purge shoal
test ! -e /etc/shoal
'`

// comeAndGo installs the deb, twice, removes and purges it.
func comeAndGo(t *testing.T, deb string) {
	require(t, os.Geteuid() == 0, "root, for namespaces")
	requireTools(t, "dpkg", "systemd-sysusers", "systemd-tmpfiles")
	try := exec.Command("sh", "-c", fmt.Sprintf("mount -t tmpfs none %[1]s && mkdir %[1]s/u %[1]s/w %[1]s/r && mount -t overlay o -o lowerdir=/,upperdir=%[1]s/u,workdir=%[1]s/w %[1]s/r", t.TempDir()))
	apart := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	try.SysProcAttr = apart
	out, err := try.CombinedOutput()
	require(t, err == nil, fmt.Sprintf("the right to make namespaces and overlays: %v %s", err, out))
	cmd := exec.Command("sh", "-c", changes, "sh", t.TempDir(), deb)
	cmd.SysProcAttr = apart
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
