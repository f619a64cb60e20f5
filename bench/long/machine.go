//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

// machine is a network namespace on a switch, and the long-running peer, or the server, in it. The namespace goes with the process that keeps
// it, and that with this program: it has no name, so nothing of it can be left behind.
type machine struct {
	number int
	dir    string // its files
	state  string
	keeper *lab.Process
	mortal bool // it may be killed

	mu   sync.Mutex
	proc *lab.Process
	args []string
	api  *http.Client
}

// quiet keeps IPv6 from talking of its own accord.
const quiet = "if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi"

func newMachine(ctx context.Context, dir string, number int) (*machine, error) {
	m := &machine{number: number, dir: filepath.Join(dir, strconv.Itoa(number), "files"), state: filepath.Join(dir, strconv.Itoa(number), "state")}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	p, err := lab.Start(ctx, dir, "unshare", "--net", "sh", "-c", `echo '{"t":"ready"}'; exec sleep infinity`)
	if err != nil {
		return nil, err
	}
	if _, err := p.Await("ready"); err != nil {
		p.Stop()
		return nil, fmt.Errorf("make a network namespace, for which root is needed: %w", err)
	}
	m.keeper = p
	m.api = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // a connection of ours would be a descriptor of its
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(m.state, "control.sock"))
		},
	}}
	return m, nil
}

func (m *machine) addr() string { return fmt.Sprintf("10.79.0.%d", m.number+1) }

// within is the beginning of a command that runs another in the namespace.
func (m *machine) within() []string {
	return []string{"nsenter", "--target", strconv.Itoa(m.keeper.PID()), "--net"}
}

// sh runs the lines of a script in the namespace.
func (m *machine) sh(ctx context.Context, lines ...string) error {
	args := append(m.within(), "sh", "-ec", strings.Join(lines, "\n"))
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("machine %d: %w: %s", m.number, err, out)
	}
	return nil
}

// plug joins a machine to the switch.
func (m *machine) plug(ctx context.Context, hub *machine) error {
	port := fmt.Sprintf("port%d", m.number)
	return errors.Join(
		hub.sh(ctx, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", port, m.keeper.PID()), "ip link set "+port+" master hub up"),
		m.sh(ctx, quiet, "ip link set lo up", "ip link set eth0 up", "ip addr add "+m.addr()+"/24 dev eth0"),
	)
}

// run starts the machine's program, again or for the first time, and waits until it says so.
func (m *machine) run(ctx context.Context, path, event string, args ...string) (lab.Event, error) {
	if len(args) > 0 {
		m.args = append([]string{path}, args...)
	}
	command := append(m.within(), m.args...)
	p, err := lab.Start(ctx, filepath.Dir(m.state), command[0], append(command[1:], "--json", "--state", m.state)...)
	if err != nil {
		return lab.Event{}, err
	}
	e, err := p.Await(event)
	if err != nil {
		p.Kill()
		return e, fmt.Errorf("machine %d: %w", m.number, err)
	}
	m.mu.Lock()
	m.proc = p
	m.mu.Unlock()
	return e, nil
}

func (m *machine) process() *lab.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proc
}

func (m *machine) signal(sig syscall.Signal) { _ = syscall.Kill(m.process().PID(), sig) }

func (m *machine) close() {
	if p := m.process(); p != nil {
		p.Kill()
	}
	m.keeper.Kill()
}

// row is a transfer of a peer's list.
type row struct {
	ID, State, Name string
	Failure         struct{ Code, What, Cause string }
}

// call asks the machine's peer something.
func (m *machine) call(ctx context.Context, method, path string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := m.api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("machine %d: %s %s: %s %s", m.number, method, path, resp.Status, text)
	}
	if s, ok := answer.(*string); ok {
		*s = string(text)
		return nil
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// insist asks until there is an answer: who is asked may be killed, or stopped, at this moment.
func (m *machine) insist(ctx context.Context, method, path string, body, answer any) error {
	for {
		err := m.call(ctx, method, path, body, answer)
		if err == nil {
			return nil
		}
		if lab.Sleep(ctx, 500*time.Millisecond) != nil {
			return err
		}
	}
}

// vitals are what a machine's program holds.
type vitals struct {
	fds, goroutines int
	rss             int64
}

func (m *machine) vitals(ctx context.Context) (v vitals, err error) {
	pid := m.process().PID()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return v, err
	}
	u, err := lab.Memory(pid)
	if err != nil {
		return v, err
	}
	v.fds, v.rss = len(list), u.Now
	var text string
	if err := m.call(ctx, "GET", "/metrics", nil, &text); err != nil {
		return v, err
	}
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			v.goroutines, err = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return v, err
}
