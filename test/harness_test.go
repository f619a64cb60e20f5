//go:build linux

// Package e2e_test drives the real program, as its users have it: real processes, real sockets on the loopback, real
// files, real seconds. What can be tested without those is tested beside the code.
//
//   - harness_test.go starts and watches processes, and makes the files that they share.
//   - proxy_test.go is a TCP relay that counts bytes and holds connections, so that "in mid-chunk" is a fact.
//   - raw_test.go is a second, tiny implementation of the protocol, which stands in for the original.
//
// All ports are the system's choice. Where a port must be known beforehand, or bound again, it is one that was free on a
// loopback address which nobody else uses. The tests need Linux, for those addresses, /proc and namespaces.
package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// chunk is how many bytes every chunk but a file's last has: the protocol's figure, not taken from our code.
	chunk = 32_000_000
	// patience is when a test gives up waiting for something. Nothing is asserted about how soon it comes.
	patience = 2 * time.Minute
)

// suite is the folder of the program under test and of the files that many tests share. Everybody may look into it,
// since some processes run as somebody else.
var suite string

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == flag.Lookup("test.parallel").DefValue {
		flag.Set("test.parallel", "8") // these tests wait more than they compute
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if suite, err = os.MkdirTemp("", "shoal-e2e-"); err == nil {
		defer os.RemoveAll(suite)
		err = errors.Join(os.Chmod(suite, 0o755), build())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		code = noScreenIsForgotten()
	}
	return code
}

func program() string { return filepath.Join(suite, "shoal") }

func build() error {
	args := []string{"build", "-o", program()}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/shoal")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program under test: %w\n%s", err, out)
	}
	return nil
}

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

// requireSpaces leaves the test out where it may not make namespaces, as many containers forbid it even to root, or
// without one of the tools.
func requireSpaces(t *testing.T, spaces uintptr, tools ...string) {
	t.Helper()
	require(t, os.Geteuid() == 0, "root, for namespaces")
	try := exec.Command(program(), "version")
	try.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces}
	err := try.Run()
	require(t, err == nil, fmt.Sprintf("the right to make namespaces: %v", err))
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		require(t, err == nil, "the tool "+tool)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// event is a line that the program prints with --json.
type event struct {
	T           string
	Name        string
	Path        string
	Link        string
	ID          string
	URL         string
	Fingerprint string
	Resolve     string
	CACert      string
	Token       string
	Wasted      int64
	Holders     int
	Shares      int
	Peer        string
	Addr        string
	Text        string
	Code        string
	What        string
	Cause       string
	Size        int64
	Resumed     int64
	Done        int64
	Total       int64
	Fetched     int64
	Sources     int
	Exit        int
	Verified    bool
	Already     bool

	Reachable bool
}

func is(kind string) func(event) bool { return func(e event) bool { return e.T == kind } }

// command is a process to be started.
type command struct {
	args   []string // of the program under test, unless path is set
	path   string
	within []string // a command that runs its arguments, such as nsenter
	user   uint32   // if not 0, who runs it
	dir    string   // that it works in
	env    []string
	stdin  bool // the test writes to it; else it reads nothing
	spaces uintptr
}

var states atomic.Int64

// newState returns the path of a state folder that nobody has used.
func newState() string { return filepath.Join(suite, "state", strconv.FormatInt(states.Add(1), 10)) }

// process is a running program. Its methods are for the test's own goroutine.
type process struct {
	t     *testing.T
	what  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended

	mu     sync.Mutex // guards what follows
	out    bytes.Buffer
	errs   bytes.Buffer
	events []event
	grew   chan struct{} // closed when a line has come
}

// start starts a process, which is killed, by its own number, when the test ends.
func (c command) start(t *testing.T) *process {
	t.Helper()
	path := c.path
	if path == "" {
		path = program()
	}
	argv := append(append([]string{}, c.within...), append([]string{path}, c.args...)...)
	p := &process{t: t, what: strings.Join(argv, " "), done: make(chan struct{}), grew: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = c.dir
	// What a test process leaves behind when it is killed must not live on; the cleanup below cannot see to that.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: c.spaces}
	if c.user != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.user, Gid: c.user}
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SHOAL_") && !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "XDG_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	// Each process is a machine of its own, unless the test says otherwise.
	p.cmd.Env = append(append(p.cmd.Env, "HOME="+suite, "SHOAL_STATE="+newState(), "SHOAL_NO_LAN=true"), c.env...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.stdin {
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.watch(stdout, stderr)
	t.Cleanup(func() {
		p.kill()
		p.report()
	})
	return p
}

// watch reads what the process prints until it has ended.
func (p *process) watch(stdout, stderr io.Reader) {
	var readers sync.WaitGroup
	readers.Go(func() {
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadBytes('\n')
			var e event
			isEvent := json.Unmarshal(line, &e) == nil
			p.mu.Lock()
			p.out.Write(line)
			if isEvent {
				p.events = append(p.events, e)
			}
			close(p.grew)
			p.grew = make(chan struct{})
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	readers.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := stderr.Read(buf)
			p.mu.Lock()
			p.errs.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	readers.Wait()
	_ = p.cmd.Wait() // the exit code is read from ProcessState
	close(p.done)
}

// report fails the test if the process told of a bug of its own, and shows what it said if the test has failed.
func (p *process) report() {
	out, errs := p.printed()
	for _, bug := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(errs, bug) {
			p.t.Errorf("%s: %s", p.what, bug)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, `{"v":`) && strings.HasSuffix(line, "\n") { // one that was killed may have written half a line
			if err := fitsSchema(line); err != nil {
				p.t.Errorf("%s\nprinted what is not in docs/output.schema.json: %s%v", p.what, line, err)
			}
		}
	}
	if p.t.Failed() {
		p.t.Logf("%s\nstdout:\n%s\nstderr:\n%s", p.what, lastLines(out), lastLines(errs))
	}
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (p *process) printed() (stdout, stderr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String(), p.errs.String()
}

// await waits until the process prints an event that fits, and returns it.
func (p *process) await(what string, fits func(event) bool) event {
	p.t.Helper()
	deadline := time.After(patience)
	for next := 0; ; {
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		p.mu.Lock()
		fresh, grew := p.events[next:], p.grew
		p.mu.Unlock()
		next += len(fresh)
		for _, e := range fresh {
			if fits(e) {
				return e
			}
		}
		if ended {
			p.t.Fatalf("%s\nended with %d before it printed: %s", p.what, p.cmd.ProcessState.ExitCode(), what)
		}
		select {
		case <-grew:
		case <-p.done:
		case <-deadline:
			p.t.Fatalf("%s\nwaited %v in vain for: %s", p.what, patience, what)
		}
	}
}

// exit waits for the process to end, and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s\nstill runs after %v", p.what, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to a process that runs.
func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%s: %v: %v", p.what, sig, err)
	}
}

// kill ends the process with SIGKILL, unless it has ended, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// succeeds waits for a download's good end, and returns its last event.
func (p *process) succeeds() event {
	p.t.Helper()
	done := p.await("done", is("done"))
	if code := p.exit(); code != 0 {
		p.t.Fatalf("%s\nended with %d, want 0", p.what, code)
	}
	return done
}

// fails waits for the process to end with an error.
func (p *process) fails(exit int, code string) event {
	p.t.Helper()
	if got := p.exit(); got != exit {
		p.t.Fatalf("%s\nended with %d, want %d %s", p.what, got, exit, code)
	}
	e := p.await("an error", is("error"))
	if e.Code != code || e.Exit != exit {
		p.t.Fatalf("%s\nerror %s, exit %d; want %s, %d", p.what, e.Code, e.Exit, code, exit)
	}
	return e
}

// mostMemory follows how much memory the process has used at most, in bytes, until it ends. The system's own figure
// for an ended process does not serve: it begins with what the test had when it started the process.
func (p *process) mostMemory() func() int64 {
	status := "/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status"
	var most atomic.Int64
	go func() {
		for p.running() {
			text, _ := os.ReadFile(status)
			if _, rest, found := strings.Cut(string(text), "VmHWM:"); found {
				kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				most.Store(max(most.Load(), kib<<10))
			}
			<-time.After(time.Millisecond)
		}
	}()
	return most.Load
}

// swarm is a swarm server and those who know it.
type swarm struct {
	t      *testing.T
	addr   string
	server *process
}

// newSwarm starts a server on an address of its own, so that it can be started there again.
func newSwarm(t *testing.T, args ...string) *swarm {
	t.Helper()
	s := &swarm{t: t}
	s.start(ownAddress()+":0", args...)
	return s
}

func (s *swarm) start(listen string, args ...string) {
	s.t.Helper()
	args = append([]string{"server", "--classic", "--json", "--listen", listen}, args...)
	s.server = command{args: args}.start(s.t)
	s.addr = s.server.await("listening", is("listening")).Addr
}

// restart starts a server again where one was.
func (s *swarm) restart() {
	s.t.Helper()
	s.server.kill()
	s.start(s.addr)
}

// share starts a sharing peer, and waits until it is in the swarm.
func (s *swarm) share(path string, args ...string) *process {
	s.t.Helper()
	args = append([]string{"share", "--classic", "--json", "--server", s.addr, path}, args...)
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	p := command{args: args}.start(s.t)
	p.await("sharing", is("sharing"))
	return p
}

// shareThrough starts a sharing peer that the swarm knows only by the address of a relay in front of it.
func (s *swarm) shareThrough(path string, args ...string) (*process, *proxy) {
	s.t.Helper()
	px := newProxy(s.t)
	return s.share(path, append(args, "--listen", px.target, "--advertise", px.addr)...), px
}

// get starts a download.
func (s *swarm) get(name, to string, args ...string) *process {
	s.t.Helper()
	return command{args: s.getArgs(name, to, args...)}.start(s.t)
}

func (s *swarm) getArgs(name, to string, args ...string) []string {
	return append([]string{
		"get", "--classic", "--json", "--server", s.addr, "--listen", "127.0.0.1:0", name, "-o", to,
	}, args...)
}

// peers returns the swarm's members as the program lists them.
func (s *swarm) peers() []string {
	s.t.Helper()
	p := command{args: []string{"peers", "--classic", "--server", s.addr}}.start(s.t)
	if code := p.exit(); code != 0 {
		s.t.Fatalf("peers ended with %d", code)
	}
	out, _ := p.printed()
	return strings.Fields(out)
}

var addresses atomic.Uint32

// ownAddress returns a loopback address that nobody else uses, in this process or in another run of the tests.
func ownAddress() string {
	n := addresses.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 100+os.Getpid()%155, 100+os.Getpid()/155%155, 100+n%155) // as many digits each time: screens are folded by width
}

// listen makes a listener for a part of the test.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// unusedAddress returns an address on which nobody listens, nor will.
func unusedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", ownAddress()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

var made struct {
	sync.Mutex
	files map[int64]string
}

// file returns a file of that size that all tests share; its name is that of its path.
func file(t *testing.T, size int64) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.files == nil {
		made.files = make(map[int64]string)
	}
	path := made.files[size]
	if path == "" {
		path = filepath.Join(suite, fmt.Sprintf("%d.img", size))
		write(t, path, size, 0)
		made.files[size] = path
	}
	return path
}

// write makes a file of its own for a test. The same size and variant give the same bytes in every run.
func write(t *testing.T, path string, size int64, variant byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seed := [32]byte{31: variant}
	copy(seed[:], strconv.FormatInt(size, 10))
	if _, err := io.Copy(f, io.LimitReader(rand.NewChaCha8(seed), size)); err != nil {
		t.Fatal(err)
	}
}

// sameContent fails the test unless both files hold the same bytes.
func sameContent(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	gb, wb := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; {
		gn, gerr := io.ReadFull(g, gb)
		wn, werr := io.ReadFull(w, wb)
		if !bytes.Equal(gb[:gn], wb[:wn]) {
			t.Fatalf("%s differs from %s within the %d bytes from %d", got, want, len(wb), off)
		}
		if gerr != nil || werr != nil {
			if errors.Is(gerr, io.ErrUnexpectedEOF) || errors.Is(gerr, io.EOF) {
				return // both, since as many bytes were read of each
			}
			t.Fatal(gerr, werr)
		}
		off += int64(gn)
	}
}

// holdsOnly fails the test unless a folder holds just these names, hidden ones counted.
func holdsOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%s holds %q, want %q", dir, got, want)
	}
}
