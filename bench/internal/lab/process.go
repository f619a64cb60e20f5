//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a process may take to end when it is asked to.
const stopTime = 10 * time.Second

// Build builds the binary under test into dir.
func Build(ctx context.Context, dir string) (path string, err error) {
	path = filepath.Join(dir, "shoal")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "shoal/cmd/shoal").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build shoal: %w\n%s", err, out)
	}
	return path, nil
}

// Event is one line of a process's standard output. Only the fields that the benchmarks use are here.
type Event struct {
	At time.Duration `json:"-"` // when the line came, since the process was started

	T     string  `json:"t"`
	Addr  string  `json:"addr,omitempty"`
	CPU   float64 `json:"cpu,omitempty"` // seconds that the process has used by then
	What  string  `json:"what,omitempty"`
	Cause string  `json:"cause,omitempty"`
	Code  string  `json:"code,omitempty"`

	Link    string `json:"link,omitempty"`    // how machines get into the swarm
	Resumed int64  `json:"resumed,omitempty"` // bytes of a download that an earlier run has left,
	Fetched int64  `json:"fetched,omitempty"` // that came from others, whatever became of them,
	Wasted  int64  `json:"wasted,omitempty"`  // and of those, what was of no use
}

// Process is a process under test.
type Process struct {
	cmd    *exec.Cmd
	stop   context.CancelFunc
	start  time.Time
	out    *bufio.Scanner
	stderr *os.File
}

// Start starts a process. It ends with ctx, with [Process.Stop], and with the benchmark, however that ends. Its standard
// error goes into a file in dir: reading it here would cost processor time that the measurement lacks.
func Start(ctx context.Context, dir, path string, args ...string) (*Process, error) {
	stderr, err := os.CreateTemp(dir, "stderr-")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SHOAL_") }) // flags of the user's
	cmd.Env = append(cmd.Env, "SHOAL_NO_LAN=true")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		p := &Process{cmd: cmd, stop: stop, start: time.Now(), out: bufio.NewScanner(out), stderr: stderr}
		if err = cmd.Start(); err == nil {
			return p, nil
		}
	}
	stop()
	stderr.Close()
	return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Await returns the next event of the kind t. An event "error" or the end of the output before it is an error.
func (p *Process) Await(t string) (Event, error) {
	for p.out.Scan() {
		e := Event{At: time.Since(p.start)}
		if err := json.Unmarshal(p.out.Bytes(), &e); err != nil {
			return e, fmt.Errorf("%v printed %q, no event", p, p.out.Text())
		}
		switch e.T {
		case t:
			return e, nil
		case "error":
			return e, fmt.Errorf("%v: %s: %s", p, e.What, e.Cause)
		}
	}
	return Event{}, fmt.Errorf("%v ended before its event %q: %s", p, t, p.complaint())
}

// Exit is what a process had used when it ended.
type Exit struct {
	Wall time.Duration
	CPU  time.Duration // user and system
	Peak int64         // bytes resident; see [Process.Wait]
}

// Wait waits until the process ends by itself. The kernel's figure for the peak counts the moment before the child's own
// program was loaded, when it still had this benchmark's memory: the truth is the figure or less.
func (p *Process) Wait() (Exit, error) {
	defer p.release()
	for p.out.Scan() { // a full pipe would keep it from ending
	}
	err := p.cmd.Wait()
	x := Exit{Wall: time.Since(p.start)}
	if state := p.cmd.ProcessState; state != nil {
		x.CPU = state.UserTime() + state.SystemTime()
		x.Peak = state.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	if err != nil {
		err = fmt.Errorf("%v: %w: %s", p, err, p.complaint())
	}
	return x, err
}

// Stop ends the process and waits for that.
func (p *Process) Stop() {
	p.stop()
	_ = p.cmd.Wait() // that it was ended by a signal is no news
	p.release()
}

func (p *Process) release() {
	p.stop()
	p.stderr.Close()
}

func (p *Process) String() string { return strings.Join(p.cmd.Args[:min(2, len(p.cmd.Args))], " ") }

// Complaint returns the end of what the process wrote to standard error, before it was waited for.
func (p *Process) Complaint() string { return p.complaint() }

// complaint returns the end of what the process wrote to standard error.
func (p *Process) complaint() string {
	const most = 2000
	fi, err := p.stderr.Stat()
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.NewSectionReader(p.stderr, max(0, fi.Size()-most), most))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// Kill ends the process with SIGKILL, unless it has ended, and returns what it had printed that nobody has read, but for half a line.
// It says whether it was killed.
func (p *Process) Kill() (events []Event, killed bool) {
	_ = p.cmd.Process.Kill()
	for p.out.Scan() {
		var e Event
		if json.Unmarshal(p.out.Bytes(), &e) == nil {
			events = append(events, e)
		}
	}
	_ = p.cmd.Wait()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.release()
	return events, ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
