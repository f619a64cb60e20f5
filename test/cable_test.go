//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is a network namespace: a network of its own, which goes with the process that keeps it.
type machine struct {
	t   *testing.T
	pid int
}

func newMachine(t *testing.T) machine {
	t.Helper()
	keeper := command{
		path: "sh", args: []string{"-c", `echo '{"t":"ready"}' && read -r _`}, stdin: true, spaces: syscall.CLONE_NEWNET,
	}.start(t)
	keeper.await("ready", is("ready"))
	m := machine{t, keeper.cmd.Process.Pid}
	m.run("ip", "link", "set", "lo", "up")
	return m
}

// within returns the command that runs another on the machine.
func (m machine) within() []string {
	return []string{"nsenter", "--target", strconv.Itoa(m.pid), "--net"}
}

func (m machine) run(path string, args ...string) {
	m.t.Helper()
	p := command{path: path, args: args, within: m.within()}.start(m.t)
	if code := p.exit(); code != 0 {
		m.t.Fatalf("%s ended with %d", p.what, code)
	}
}

// dial connects from the machine. Only the socket must be made there, so only for that a thread of ours goes there. It
// must come back: were it to end, so would the processes that it has started.
func (m machine) dial(addr string) net.Conn {
	m.t.Helper()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		m.t.Fatal(err)
	}
	defer here.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		m.t.Fatal(err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		m.t.Fatal(err)
	}
	fd, sockErr := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		panic("cannot come back from a network namespace: " + err.Error()) // no other test may use this thread
	}
	runtime.UnlockOSThread()
	if sockErr != nil {
		m.t.Fatal(sockErr)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		m.t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

// Without keep-alive the server would never know: a connection over which nothing is sent looks the same with and
// without a cable. With something under way that is not acknowledged, keep-alive is silent, and another limit must do.
func TestAMemberWhoseCableIsPulledIsRemovedAndTheOthersAreTold(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	for _, what := range []string{"in silence", "with news for it under way"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			here, there := newMachine(t), newMachine(t)
			link := command{
				path: "ip", args: strings.Fields("link add cable type veth peer name cable netns " + strconv.Itoa(there.pid)), within: here.within(),
			}.start(t)
			require(t, link.exit() == 0, "pairs of virtual network interfaces (veth)")
			for i, m := range []machine{here, there} {
				m.run("ip", "addr", "add", fmt.Sprintf("10.0.0.%d/24", i+1), "dev", "cable")
				m.run("ip", "link", "set", "cable", "up")
			}
			path := file(t, 1)
			// join starts a server here and a member there, and returns where they are.
			join := func(keepAlive string) (server, member string) {
				_, port, _ := net.SplitHostPort(command{
					args: []string{"server", "--classic", "--json", "--keepalive", keepAlive, "--listen", "0.0.0.0:0"}, within: here.within(),
				}.start(t).await("listening", is("listening")).Addr)
				return port, command{
					args:   []string{"share", "--classic", "--json", "--server", "10.0.0.1:" + port, "--listen", "10.0.0.2:0", path},
					within: there.within(),
				}.start(t).await("sharing", is("sharing")).Addr
			}
			enter := func(port string, ownPort int) net.Conn {
				c := here.dial("127.0.0.1:" + port)
				_, _ = c.Write(pair(1, fmt.Sprintf("127.0.0.1:%d", ownPort)))
				return c
			}
			patient, patientMember := join("15s")
			port, member := join("1s")
			witness := enter(port, 6101)
			told(t, witness, pair(1, member))

			here.run("ip", "link", "set", "cable", "down")
			if what == "with news for it under way" {
				enter(port, 6102)
				told(t, witness, pair(1, "127.0.0.1:6102"))
			}
			told(t, witness, pair(0, member))
			// It was this server's own patience that ended: one that has more still names its member.
			told(t, enter(patient, 6103), pair(1, patientMember))

			// The member comes back by itself when the cable does, and what it shares can be had again.
			here.run("ip", "link", "set", "cable", "up")
			told(t, witness, pair(1, member))
			dir := t.TempDir()
			command{
				args:   []string{"get", "--classic", "--json", "--server", "10.0.0.1:" + port, filepath.Base(path), "-o", dir},
				within: here.within(),
			}.start(t).succeeds()
			sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
		})
	}
}
