//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

const (
	// calmTime is how long a pair waits at most for a machine that has nothing else to do.
	calmTime = time.Minute
	// maxTries is how often a pair is measured before one is taken that others disturbed.
	maxTries = 6
	// startLag is how late the event "start" of a download may be: it is told by something that looks every so often. It
	// is added to the time of the transfer, which is therefore never shown shorter than it was.
	startLag = 50 * time.Millisecond
)

// bench is what all series in one folder share.
type bench struct {
	shoal, dir, source string
	size               int64
}

// copied is one copy, as far as one moment: the last byte, the end of the sync, the end of the process.
type copied struct {
	seconds float64
	sendCPU float64 // seconds on the sending side
	recvCPU float64 // seconds of the receiving process
	peak    int64   // bytes resident in the receiving process at most, 0 if that is not known at this moment
}

// pair is a bare copy and a download.
type pair struct {
	bare, synced    copied  // the bare copy to its last byte, and to the end of its sync
	transfer, whole copied  // the download from "start" to "done", and from the start of its process to its end
	search          float64 // seconds of the download before its "start"
	ours, others    float64 // processor seconds that our processes, this one among them, and all others used
}

// disturbed says whether others used so much of the processors that the pair says little.
func (p pair) disturbed() bool { return p.others > p.ours/4 }

// field is the processes that run during a whole series.
type field struct {
	server  string // the swarm server's address
	sender  string // the bare sender's
	serving []*lab.Process
	bare    *lab.Process
}

// series measures pairs with the given number of holders.
func (b *bench) series(ctx context.Context, holders, pairs int) ([]pair, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var f field
	defer f.stop()
	if err := b.open(ctx, &f, holders); err != nil {
		return nil, err
	}
	var out []pair
	for i := range pairs + 1 {
		p, err := b.calmPair(ctx, &f, i)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, p)
		}
	}
	return out, nil
}

// calmPair measures the pair with the given number, again if others took part in it.
func (b *bench) calmPair(ctx context.Context, f *field, number int) (p pair, err error) {
	for try := range maxTries {
		if _, err := lab.Calm(ctx, calmTime); err != nil {
			return p, err
		}
		if p, err = b.pair(ctx, f, number%2 == 0); err != nil {
			return p, err
		}
		progress("%d holders, pair %d.%d: bare %.2f s (synced %.2f, CPU %.2f), download %.2f s (whole %.2f, CPU %.2f), others' CPU %.2f",
			len(f.serving)-1, number, try, p.bare.seconds, p.synced.seconds, p.synced.sendCPU+p.synced.recvCPU,
			p.transfer.seconds, p.whole.seconds, p.whole.sendCPU+p.whole.recvCPU, p.others)
		if !p.disturbed() || number == 0 { // the first is not counted anyway
			break
		}
	}
	return p, nil
}

// open starts the processes of a series, and waits until all are ready.
func (b *bench) open(ctx context.Context, f *field, holders int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if f.bare, f.sender, err = b.start(ctx, "listening", self, senderRole, b.source); err != nil {
		return err
	}
	server, addr, err := b.start(ctx, "listening", b.shoal, "server", "--classic", "--json", "--state", filepath.Join(b.dir, "state"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.server, f.serving = addr, append(f.serving, server)
	for range holders {
		holder, _, err := b.start(ctx, "sharing", b.shoal,
			"share", "--classic", "--json", "--server", f.server, "--listen", "127.0.0.1:0", b.source)
		if err != nil {
			return err
		}
		f.serving = append(f.serving, holder)
	}
	return nil
}

// start starts a process and waits for its first event. It returns the address that the event names.
func (b *bench) start(ctx context.Context, event, path string, args ...string) (*lab.Process, string, error) {
	p, err := lab.Start(ctx, b.dir, path, args...)
	if err != nil {
		return nil, "", err
	}
	e, err := p.Await(event)
	if err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, e.Addr, nil
}

func (f *field) stop() {
	if f.bare != nil {
		f.bare.Stop()
	}
	for i := len(f.serving) - 1; i >= 0; i-- { // the server last
		f.serving[i].Stop()
	}
}

// pair measures one pair.
func (b *bench) pair(ctx context.Context, f *field, bareFirst bool) (p pair, err error) {
	before, err := lab.Busy()
	if err != nil {
		return p, err
	}
	steps := []func(context.Context, *field, *pair) error{b.bareCopy, b.download}
	if !bareFirst {
		steps[0], steps[1] = steps[1], steps[0]
	}
	own := lab.OwnCPU()
	for _, step := range steps {
		if err := step(ctx, f, &p); err != nil {
			return p, err
		}
		if err := b.checkAndRemove(); err != nil {
			return p, err
		}
	}
	after, err := lab.Busy()
	p.ours = p.synced.sendCPU + p.synced.recvCPU + p.whole.sendCPU + p.whole.recvCPU + (lab.OwnCPU() - own).Seconds()
	p.others = max(0, (after-before).Seconds()-p.ours)
	return p, err
}

// target is where every copy goes.
func (b *bench) target() string { return filepath.Join(b.dir, "copy.bin") }

func (b *bench) bareCopy(ctx context.Context, f *field, p *pair) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var last, synced lab.Event
	sent, exit, err := b.receive(ctx, []*lab.Process{f.bare}, func(r *lab.Process) (err error) {
		if last, err = r.Await("copied"); err == nil {
			synced, err = r.Await("synced")
		}
		return err
	}, self, receiverRole, f.sender, b.target())
	p.bare = copied{seconds: last.At.Seconds(), sendCPU: sent, recvCPU: last.CPU}
	p.synced = copied{seconds: synced.At.Seconds(), sendCPU: sent, recvCPU: synced.CPU, peak: exit.Peak}
	return err
}

func (b *bench) download(ctx context.Context, f *field, p *pair) error {
	var start, done lab.Event
	sent, exit, err := b.receive(ctx, f.serving, func(r *lab.Process) (err error) {
		if start, err = r.Await("start"); err == nil {
			done, err = r.Await("done")
		}
		return err
	}, b.shoal, "get", "--classic", "--json", "--server", f.server, "--listen", "127.0.0.1:0",
		"-o", b.target(), filepath.Base(b.source))
	p.search = start.At.Seconds()
	p.transfer = copied{seconds: (done.At - start.At + startLag).Seconds()}
	p.whole = copied{seconds: exit.Wall.Seconds(), sendCPU: sent, recvCPU: exit.CPU.Seconds(), peak: exit.Peak}
	return err
}

// receive runs a receiving process to its end, and returns the processor seconds of the senders meanwhile. follow
// reads its events.
func (b *bench) receive(
	ctx context.Context, senders []*lab.Process, follow func(*lab.Process) error, path string, args ...string,
) (sent float64, exit lab.Exit, err error) {
	before, err := cpuOf(senders)
	if err != nil {
		return 0, exit, err
	}
	r, err := lab.Start(ctx, b.dir, path, args...)
	if err != nil {
		return 0, exit, err
	}
	if err := follow(r); err != nil {
		r.Stop()
		return 0, exit, err
	}
	if exit, err = r.Wait(); err != nil {
		return 0, exit, err
	}
	after, err := cpuOf(senders)
	return after - before, exit, err
}

func cpuOf(processes []*lab.Process) (seconds float64, err error) {
	for _, p := range processes {
		d, err := lab.CPU(p.PID())
		if err != nil {
			return 0, err
		}
		seconds += d.Seconds()
	}
	return seconds, nil
}

// checkAndRemove compares the copy with the source and removes it, so that the next one finds the file system as this
// one did.
func (b *bench) checkAndRemove() error {
	if err := sameContent(b.source, b.target()); err != nil {
		return fmt.Errorf("the copy is not right: %w", err)
	}
	if err := os.Remove(b.target()); err != nil {
		return err
	}
	syscall.Sync() // the next copy does not pay for what this one left unwritten
	return nil
}
