//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
	"shoal/internal/content"
	"shoal/internal/hostile"
)

// tool is a program under test. Two are: ours, and aria2.
type tool interface {
	name() string
	// share starts what must be there before the crowd comes: who tells the machines of each other, and the source, c.source.
	share(ctx context.Context, c *crowd) error
	// get is the command by which leecher i fetches its content into its folder. It prints the events "start" and "done", and then gives to
	// others until it is ended. Again says that an earlier run was killed.
	get(c *crowd, i int, again bool) []string
	// partial is where the bytes of a download lie that is not complete; empty: there is none.
	partial(dir, name string) string
}

// crowd is one run: a source, and leechers who all come for what it has. Only the loop in run touches it once that has begun.
type crowd struct {
	dir   string
	tool  tool
	shoal string // path of the binary
	talk  bool   // what the processes say of themselves is kept
	plan  plan
	role  hostile.Role
	act   func(context.Context, *crowd, time.Duration) error // what else happens; nil: nothing
	net   *network
	files []string // the contents, in the source's folder

	helpers  []*lab.Process // the server
	tracker  *lab.Process   // nil: there is none
	source   *lab.Process   // nil when it was killed
	link     string         // to the swarm
	hostile  []*lab.Process // those who are hostile; what they cost is not counted
	leechers []*leecher
	news     chan news

	spent         time.Duration    // processor time of processes that were killed
	peak          int64            // and the most memory that one had
	acked         map[string]int64 // bytes that others have acknowledged to the source, by connection; those that are gone, as they were last seen
	began         time.Time
	acted         bool
	before, after meter
	samples       []sample
}

// leecher is a machine that wants a content.
type leecher struct {
	i             int
	file          string // what it wants
	dir           string // where it goes
	gate          *os.File
	p             *lab.Process
	opened        bool      // its process was told to start
	started, done time.Time // events of the process; zero: not yet
	event         lab.Event // the event "done"
	err           error
	stopped       bool  // it stands still and is not waited for
	killed        bool  // it was killed and started again
	had           int64 // bytes in whole pieces that it had when it was killed
}

// news is what the process of a leecher said.
type news struct {
	l     *leecher
	p     *lab.Process
	event lab.Event
	at    time.Time
	err   error
}

func (c *crowd) expected() (out []*leecher) {
	for _, l := range c.leechers {
		if !l.stopped {
			out = append(out, l)
		}
	}
	return out
}

func (c *crowd) finished() (n int) {
	for _, l := range c.expected() {
		if !l.done.IsZero() {
			n++
		}
	}
	return n
}

// state returns the folder for what machine i is.
func (c *crowd) state(i int) string { return filepath.Join(c.dir, "state"+strconv.Itoa(i)) }

// logs returns the folder for what the process on machine i says of itself.
func (c *crowd) logs(i int) string {
	dir := filepath.Join(c.dir, "log"+strconv.Itoa(i))
	_ = os.Mkdir(dir, 0o700) // whoever writes there will say that it is missing
	return dir
}

// prepare makes the network, starts all processes, and returns when all leechers wait at their gates.
func (c *crowd) prepare(ctx context.Context, w wire) (err error) {
	links := slices.Concat([]link{c.plan.source}, c.plan.leechers, c.plan.hostile)
	if c.net, err = newNetwork(ctx, c.dir, links, w, c.plan.between); err != nil {
		return err
	}
	if err := c.tool.share(ctx, c); err != nil {
		return err
	}
	if err := c.attack(ctx, c.role); err != nil {
		return err
	}
	c.news = make(chan news, 16*len(c.plan.leechers)) // at most two of each process, and none is started more than twice
	for i := range c.plan.leechers {
		l := &leecher{i: i, dir: filepath.Join(c.dir, "out"+strconv.Itoa(i)), file: c.files[i%len(c.files)]}
		c.leechers = append(c.leechers, l)
		gate := filepath.Join(c.dir, "gate"+strconv.Itoa(i))
		if err := errors.Join(os.Mkdir(l.dir, 0o700), syscall.Mkfifo(gate, 0o600)); err != nil {
			return err
		}
		if l.gate, err = os.OpenFile(gate, os.O_RDWR, 0); err != nil {
			return err
		}
		if err := c.launch(ctx, l, false); err != nil {
			return err
		}
	}
	return lab.Sleep(ctx, 300*time.Millisecond) // they say that they are ready just before they are
}

// launch starts the process of a leecher as far as its gate.
func (c *crowd) launch(ctx context.Context, l *leecher, again bool) (err error) {
	const wait = `echo '{"t":"ready"}'; read -r _ <"$0"; exec "$@"`
	args := c.net.machines[l.i+1].within(append([]string{"sh", "-c", wait, l.gate.Name()}, c.tool.get(c, l.i, again)...)...)
	if l.p, err = lab.Start(ctx, c.logs(l.i+1), args[0], args[1:]...); err != nil {
		return err
	}
	_, err = l.p.Await("ready")
	return err
}

// open lets a leecher through its gate.
func (c *crowd) open(l *leecher) error {
	if _, err := l.gate.WriteString("\n"); err != nil {
		return err
	}
	l.opened = true
	go func(l *leecher, p *lab.Process) {
		for _, t := range []string{"start", "done"} {
			e, err := p.Await(t)
			c.news <- news{l, p, e, time.Now(), err} // there is room
			if err != nil {
				return
			}
		}
	}(l, l.p)
	return nil
}

// run opens the gates, and watches until all are done who can be, or limit is over.
func (c *crowd) run(ctx context.Context, limit time.Duration) (err error) {
	if c.before, err = c.net.meter(); err != nil {
		return err
	}
	for _, p := range c.running() { // what the preparations have cost is not the crowd's
		cpu, err := lab.CPU(p.PID())
		if err != nil {
			return err
		}
		c.spent -= cpu
	}
	c.acked = make(map[string]int64)
	c.began = time.Now()
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for err = c.tick(ctx); err == nil && !c.over() && time.Since(c.began) < limit; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-c.news:
			c.note(n)
		case <-ticker.C:
			err = c.tick(ctx)
		}
	}
	if err != nil {
		return err
	}
	c.after, err = c.net.meter()
	err = errors.Join(err, c.countSource(ctx))
	for _, p := range c.running() {
		c.retire(p)
	}
	return errors.Join(err, c.sample())
}

// countEvery is after how many samples the source's connections are looked at: once a second, since that starts a program.
const countEvery = 10

// over says whether there is nothing to wait for.
func (c *crowd) over() bool {
	for _, l := range c.expected() {
		if l.done.IsZero() && l.err == nil {
			return false
		}
	}
	return true
}

func (c *crowd) note(n news) {
	switch l := n.l; {
	case n.p != l.p || l.stopped: // of a process that was killed
	case n.err != nil:
		l.err = n.err
	case n.event.T == "start":
		if l.started.IsZero() {
			l.started = n.at
		}
	default:
		l.done, l.event = n.at, n.event
	}
}

// tick reads the counters, opens the gates that are due, and does what the scenario wants.
func (c *crowd) tick(ctx context.Context) error {
	t := time.Since(c.began)
	for i, l := range c.leechers {
		if l.opened || t.Seconds() < c.plan.startOf(i) {
			continue
		}
		if err := c.open(l); err != nil {
			return err
		}
	}
	if err := c.sample(); err != nil {
		return err
	}
	if len(c.samples)%countEvery == 0 {
		if err := c.countSource(ctx); err != nil {
			return err
		}
	}
	if c.act == nil {
		return nil
	}
	return c.act(ctx, c, t)
}

func (c *crowd) sample() error {
	now, err := c.net.traffic()
	if err != nil {
		return err
	}
	s := sample{at: time.Since(c.began)}
	for i, t := range now[:1+len(c.plan.leechers)] {
		s.sent = append(s.sent, t.sent-c.before.traffic[i].sent)
	}
	c.samples = append(c.samples, s)
	return nil
}

// running returns all processes of the tool.
func (c *crowd) running() (out []*lab.Process) {
	out = slices.Clone(c.helpers)
	if c.source != nil {
		out = append(out, c.source)
	}
	for _, l := range c.leechers {
		if l.p != nil {
			out = append(out, l.p)
		}
	}
	return out
}

// retire adds what a process has used to that of all. One that has ended by itself has an error already.
func (c *crowd) retire(p *lab.Process) {
	if cpu, err := lab.CPU(p.PID()); err == nil {
		c.spent += cpu
	}
	if m, err := lab.Memory(p.PID()); err == nil {
		c.peak = max(c.peak, m.Peak)
	}
}

// countSource notes what the source has given by now. Some close a connection as soon as neither end needs it, so it is called now and then.
func (c *crowd) countSource(ctx context.Context) error {
	if c.source == nil {
		return nil
	}
	acked, err := c.net.machines[0].acknowledged(ctx)
	maps.Copy(c.acked, acked)
	return err
}

// kill ends a process without warning.
func (c *crowd) kill(p *lab.Process) error {
	c.retire(p)
	err := syscall.Kill(p.PID(), syscall.SIGKILL)
	p.Stop()
	return err
}

// restart starts the same command again on a leecher whose process was killed.
func (c *crowd) restart(ctx context.Context, l *leecher) (err error) {
	if l.had, err = wholePieces(c.tool.partial(l.dir, filepath.Base(l.file)), l.file); err != nil {
		return err
	}
	l.killed, l.err = true, nil
	if err := c.launch(ctx, l, true); err != nil {
		return err
	}
	return c.open(l)
}

// pieceSize returns the length of the pieces of a file, with ours and with aria2.
func pieceSize(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	g, err := content.GeometryOf(fi.Size())
	return g.Piece, err
}

// wholePieces returns how many bytes of a download are there in whole pieces.
func wholePieces(path, source string) (n int64, err error) {
	err = eachWhole(path, source, func(_, size int) { n += int64(size) })
	return n, err
}

// eachWhole calls do for each piece of a download that is what the source has.
func eachWhole(path, source string, do func(piece, size int)) error {
	got, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) || path == "" {
		return nil
	} else if err != nil {
		return err
	}
	defer got.Close()
	want, err := os.Open(source)
	if err != nil {
		return err
	}
	defer want.Close()
	size, err := pieceSize(want)
	if err != nil {
		return err
	}
	a, b := make([]byte, size), make([]byte, size)
	for piece := 0; ; piece++ {
		x, errX := io.ReadFull(want, a)
		y, errY := io.ReadFull(got, b)
		if x > 0 && x == y && bytes.Equal(a[:x], b[:y]) {
			do(piece, x)
		}
		for _, err := range []error{errX, errY} {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// together returns how many bytes of a content all leechers have together, in whole pieces.
func (c *crowd) together(file string) (n int64, err error) {
	seen := make(map[int]bool)
	for _, l := range c.leechers {
		path := filepath.Join(l.dir, filepath.Base(file))
		if l.done.IsZero() {
			path = c.tool.partial(l.dir, filepath.Base(file))
		}
		if err := eachWhole(path, file, func(piece, size int) {
			if !seen[piece] {
				seen[piece], n = true, n+int64(size)
			}
		}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// correct says whether every leecher that is done has what the source has.
func (c *crowd) correct() error {
	for _, l := range c.leechers {
		if l.done.IsZero() {
			continue
		}
		path := filepath.Join(l.dir, filepath.Base(l.file))
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		n, err := wholePieces(path, l.file)
		if err != nil {
			return err
		}
		if size := int64(c.plan.size); n != size || fi.Size() != size {
			return fmt.Errorf("leecher %d has %d right bytes of %d, and a file of %d", l.i, n, size, fi.Size())
		}
	}
	return nil
}

// close ends whatever the run has started.
func (c *crowd) close() {
	for _, l := range c.leechers {
		if l.stopped {
			_ = syscall.Kill(l.p.PID(), syscall.SIGKILL) // it would not hear anything else
		}
		if l.gate != nil {
			l.gate.Close()
		}
	}
	all := c.running()
	if c.tracker != nil {
		all = append(all, c.tracker)
	}
	all = append(all, c.hostile...)
	done := make(chan struct{})
	for _, p := range all { // at once: each takes its time to say good-bye
		go func() { p.Stop(); done <- struct{}{} }()
	}
	for range all {
		<-done
	}
	if c.net != nil {
		c.net.close()
	}
}
