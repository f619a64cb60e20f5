// Command session records what three people see who share and fetch a file with the real program, and writes it as a moving SVG.
// scripts/record runs it, in a network where this machine is 10.0.0.1. Each terminal is a machine: it has a state folder of its own.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

const (
	columns  = 100
	fileSize = 256 << 20
	rate     = "40MiB/s" // of each machine, up and down, so that there is something to see
	sample   = 200 * time.Millisecond
	patience = time.Minute
)

// pane is a terminal.
type pane struct {
	title string
	rows  int
	dir   string
	env   []string

	mu     sync.Mutex // guards the screen, and what was printed
	screen *vt.Emulator
	said   strings.Builder

	cmd  *exec.Cmd
	done chan struct{} // closed when the command has ended, and all that it printed is on the screen
}

func newPane(title, dir, program string, rows int) (*pane, error) {
	p := &pane{title: title, rows: rows, dir: filepath.Join(dir, title[:1]), screen: vt.NewEmulator(columns, rows)}
	p.env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "SHOAL_STATE="+filepath.Join(p.dir, "state"),
		"SHOAL_NO_LAN=true", "SHOAL_LIMIT_UP="+rate, "SHOAL_LIMIT_DOWN="+rate)
	return p, os.MkdirAll(p.dir, 0o700)
}

func (p *pane) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b)
	return p.screen.Write(b)
}

// start runs a command in the terminal.
func (p *pane) start(line string) error {
	p.cmd = exec.Command("sh", "-c", "exec "+line)
	p.cmd.Dir, p.cmd.Env = p.dir, p.env
	tty, err := pty.StartWithSize(p.cmd, &pty.Winsize{Rows: uint16(p.rows), Cols: columns})
	if err != nil {
		return err
	}
	p.done = make(chan struct{})
	go func() { // ends with the command
		defer close(p.done)
		defer tty.Close()
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b)
			_, _ = p.Write(b[:n])
			if err != nil { // EIO: nobody has the terminal open any more
				_ = p.cmd.Wait()
				return
			}
		}
	}()
	return nil
}

// director runs the scene, and films it.
type director struct {
	film  *film
	began time.Time
	err   error
}

// until films while something is not so.
func (d *director) until(what string, so func() bool) {
	for end := time.Now().Add(patience); d.err == nil && !so(); time.Sleep(sample) {
		d.film.look(time.Since(d.began))
		if time.Now().After(end) {
			d.err = fmt.Errorf("waited in vain until %s", what)
		}
	}
	d.film.look(time.Since(d.began))
}

func (d *director) pause(t time.Duration) {
	end := time.Now().Add(t)
	d.until("time has passed", func() bool { return time.Now().After(end) })
}

// types types a line, a few characters at a time, but pastes a link. It does not start it.
func (d *director) types(p *pane, line string) {
	fmt.Fprint(p, "$ ")
	for rest := line; rest != "" && d.err == nil; {
		n := min(3, len(rest))
		if quote := strings.Index(rest, "'"); quote == 0 {
			n = len(rest)
		} else if quote > 0 {
			n = min(n, quote)
		}
		fmt.Fprint(p, rest[:n])
		rest = rest[n:]
		d.pause(sample)
	}
}

// enter starts what was typed.
func (d *director) enter(p *pane, line string) {
	fmt.Fprint(p, "\r\n")
	if d.err == nil {
		d.err = p.start(line)
	}
}

var link = regexp.MustCompile(`'shoal://[^']+'`)

// scene is what is filmed: A shares, B and C fetch at once.
func (d *director) scene(a, b, c *pane) {
	d.pause(time.Second)
	d.types(a, "shoal share big.img")
	d.enter(a, "shoal share big.img")
	pasted := ""
	d.until("A has a link", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		pasted = link.FindString(strings.ReplaceAll(a.said.String(), "\r\n", "\n"))
		return pasted != "" && strings.Contains(a.said.String(), "Ctrl-C")
	})
	d.pause(2 * time.Second)
	get := "shoal get " + pasted
	d.types(b, get)
	d.types(c, get)
	d.enter(b, get)
	d.enter(c, get)
	for _, p := range []*pane{b, c} {
		d.until("all have it", func() bool {
			select {
			case <-p.done:
				return true
			default:
				return false
			}
		})
		if d.err == nil && !p.cmd.ProcessState.Success() {
			d.err = fmt.Errorf("%s: %v", p.title, p.cmd.ProcessState)
		}
		fmt.Fprint(p, "$ ")
	}
	d.pause(6 * time.Second)
}

func record(program, to string) error {
	dir, err := os.MkdirTemp("", "session-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var panes []*pane
	for _, p := range []struct {
		title string
		rows  int
	}{{"A has big.img", 15}, {"B wants it", 8}, {"C wants it, too", 8}} {
		made, err := newPane(p.title, dir, program, p.rows)
		if err != nil {
			return err
		}
		panes = append(panes, made)
	}
	b := make([]byte, fileSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	if err := os.WriteFile(filepath.Join(panes[0].dir, "big.img"), b, 0o600); err != nil {
		return err
	}
	d := &director{film: &film{panes: panes, open: make(map[[2]int]*strip), columns: columns}, began: time.Now()}
	d.scene(panes[0], panes[1], panes[2])
	end := time.Since(d.began)
	for _, p := range panes {
		if p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGINT)
			<-p.done
		}
	}
	if d.err != nil {
		return d.err
	}
	return os.WriteFile(to, d.film.svg(end), 0o644)
}

func main() {
	err := errors.New("usage: session PROGRAM FILE.svg")
	if len(os.Args) == 3 {
		err = record(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
