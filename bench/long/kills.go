//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shoal/bench/internal/lab"
)

var killStage = stage{
	name: "kills", minutes: 14,
	does: "swarm server, source, downloader of both protocols, killed with SIGKILL at any instant, over and over; several swarms at once",
	run:  runKills, figures: killFigures,
}

const killGoal = 20_000

// runKills lets several swarms be under fire until there were enough kills. Each worker has its own, on a loopback address of its own.
func runKills(ctx context.Context, w *work) error {
	path, err := lab.Build(ctx, w.dir)
	if err != nil {
		return err
	}
	w.each(ctx, 4*w.procs, func(worker int) bool {
		if w.rest("kills", killGoal) == 0 {
			return false
		}
		f := &fire{
			w: w, path: path, dir: filepath.Join(w.dir, fmt.Sprintf("%d-%d", worker, time.Now().UnixNano())), classic: worker%4 == 3,
			chance: rand.New(rand.NewPCG(w.seed, uint64(time.Now().UnixNano()))),
			host:   fmt.Sprintf("127.%d.%d.%d", 200+os.Getpid()%50, os.Getpid()/50%250, 1+worker),
		}
		if err := f.run(ctx); err != nil && ctx.Err() == nil {
			w.fail("%s: %v", f, err)
		}
		return true
	})
	return ctx.Err()
}

// fire is a swarm under fire: one server, one source, one file, and one downloader after the other.
type fire struct {
	w       *work
	path    string // of the program
	dir     string
	host    string // its address
	classic bool
	chance  *rand.Rand

	link        string
	server      *lab.Process
	source      *lab.Process
	want, older []byte
	downloads   int
}

func (f *fire) String() string {
	if f.classic {
		return "classic"
	}
	return "v2"
}

func (f *fire) state(who string) string { return filepath.Join(f.dir, who) }

// run makes a swarm, downloads its file a few times under fire, and ends it.
func (f *fire) run(ctx context.Context) error {
	if err := os.MkdirAll(f.state("files"), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(f.dir)
	f.make()
	if err := os.WriteFile(f.file(), f.want, 0o644); err != nil {
		return err
	}
	defer f.end()
	if err := f.startServer(ctx); err != nil {
		return err
	}
	if err := f.startSource(ctx); err != nil {
		return err
	}
	for ; f.downloads < 6 && ctx.Err() == nil && f.w.rest("kills", killGoal) > 0; f.downloads++ {
		if err := f.download(ctx); err != nil {
			return err
		}
	}
	if got, err := os.ReadFile(f.file()); err != nil || !bytes.Equal(got, f.want) {
		return fmt.Errorf("the source's own file has changed (%v)", err)
	}
	return nil
}

func (f *fire) file() string { return filepath.Join(f.dir, "files", "f.img") }

// make invents the file, and an older version of it. A classic one is of several chunks now and then.
func (f *fire) make() {
	size := 1 + f.chance.IntN(6<<20)
	if f.classic && f.chance.IntN(8) == 0 {
		size = 64_000_000 + f.chance.IntN(1<<20)
	}
	f.want = make([]byte, size)
	stream := rand.NewChaCha8([32]byte{byte(f.chance.Uint32()), byte(f.chance.Uint32()), byte(f.chance.Uint32()), byte(f.chance.Uint32())})
	_, _ = stream.Read(f.want)
	f.older = bytes.Clone(f.want[:1+len(f.want)*2/3])
	for at := 0; at < len(f.older); at += 300_000 {
		f.older[at] ^= 1
	}
}

func (f *fire) end() {
	for _, p := range []*lab.Process{f.server, f.source} {
		if p != nil {
			p.Kill()
		}
	}
}

func (f *fire) shoal(ctx context.Context, state string, args ...string) (*lab.Process, error) {
	return lab.Start(ctx, f.dir, f.path, append(args, "--json", "--no-lan", "--state", f.state(state))...)
}

func (f *fire) startServer(ctx context.Context) (err error) {
	args := []string{"server", "--listen", f.host + ":50001"}
	if f.classic {
		args = append(args, "--classic")
	}
	if f.server, err = f.shoal(ctx, "server", args...); err != nil {
		return err
	}
	e, err := f.server.Await("listening")
	if err != nil {
		return err
	}
	if f.link != "" && !f.classic && sameSwarm(f.link) != sameSwarm(e.Link) {
		return fmt.Errorf("the server is of another swarm after a kill: %s, %s", f.link, e.Link)
	}
	f.link = e.Link
	return nil
}

// sameSwarm is the part of a link that says which swarm it is: where the server is.
func sameSwarm(link string) string {
	at := strings.LastIndex(link, "/")
	return link[:max(at, 0)]
}

func (f *fire) startSource(ctx context.Context) (err error) {
	args := []string{"share", f.file(), "--listen", f.host + ":50002", "--limit-up", "20MB/s"}
	switch {
	case f.classic:
		args = append(args, "--classic", "--server", f.host+":50001", "--advertise", f.host, "--limit-up", "100MB/s")
	case f.source == nil:
		if err := errors.Join(f.join(ctx, "source"), f.join(ctx, "reader")); err != nil {
			return err
		}
	}
	if f.source, err = f.shoal(ctx, "source", args...); err != nil {
		return err
	}
	_, err = f.source.Await("sharing")
	return err
}

func (f *fire) join(ctx context.Context, who string) error {
	p, err := f.shoal(ctx, who, "join", f.link)
	if err == nil {
		_, err = p.Wait()
	}
	return err
}

// target is where a download goes, and what is known of it.
type target struct {
	dir       string
	overwrite bool
	chunks    bool
	there     int64 // bytes in whole pieces that the run before has left on disk
}

// download kills the downloader, the server, and the source, until a run was complete or there were enough, and lets the last run go on in peace.
func (f *fire) download(ctx context.Context) error {
	to := target{dir: f.state(fmt.Sprintf("to%d", f.downloads)), overwrite: !f.classic && f.chance.IntN(3) == 0, chunks: f.classic && f.chance.IntN(3) == 0}
	if err := os.Mkdir(to.dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(to.dir)
	if to.overwrite {
		if err := os.WriteFile(filepath.Join(to.dir, "f.img"), f.older, 0o644); err != nil {
			return err
		}
	}
	for range 5 + f.chance.IntN(30) {
		p, err := f.get(ctx, to)
		if err != nil {
			return err
		}
		if err := f.shoot(ctx); err != nil {
			p.Kill()
			return err
		}
		events, killed := p.Kill()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if killed {
			f.w.count("kills", 1)
			f.w.count(f.String()+" downloader", 1)
		}
		complete, err := f.look(&to, events, killed)
		if err != nil {
			return err
		}
		if complete {
			break
		}
	}
	return f.finish(ctx, to)
}

// shoot waits for a while, in which it may kill the server or the source, and start it again.
func (f *fire) shoot(ctx context.Context) error {
	wait := time.Duration(f.chance.Int64N(int64(250 * time.Millisecond)))
	lab.Sleep(ctx, wait)
	if victim := f.chance.IntN(10); victim < 4 && ctx.Err() == nil {
		who, p, start := "server", f.server, f.startServer
		if victim < 2 {
			who, p, start = "source", f.source, f.startSource
		}
		complaint := p.Complaint()
		if strings.Contains(complaint, "panic:") || strings.Contains(complaint, "fatal error:") {
			return fmt.Errorf("the %s: %s", who, complaint)
		}
		events, killed := p.Kill()
		if !killed {
			return fmt.Errorf("the %s had ended by itself: %v %s", who, events, complaint)
		}
		f.w.count("kills", 1)
		f.w.count(f.String()+" "+who, 1)
		if err := start(ctx); err != nil {
			return fmt.Errorf("the %s, started again: %w", who, err)
		}
		lab.Sleep(ctx, wait/2)
	}
	return nil
}

func (f *fire) get(ctx context.Context, to target) (*lab.Process, error) {
	args := []string{"get", "f.img", "-o", to.dir, "--listen", f.host + ":0"}
	if f.classic {
		args = append(args, "--classic", "--server", f.host+":50001")
		if to.chunks {
			args = append(args, "--chunk-files")
		}
		return f.shoal(ctx, "classic", args...)
	}
	if to.overwrite {
		args = append(args, "--overwrite")
	}
	return f.shoal(ctx, "reader", append(args, "--once")...)
}

// wrong are the errors that no kill of anybody may lead to.
var wrong = []string{"E-INTERNAL", "E-STATE", "E-VERIFY", "E-EXISTS", "E-LOCKED", "E-SOURCE-CHANGED", "E-TWO-CONTENTS", "E-LINK", "E-NOT-MEMBER", "E-PERM", "E-USAGE"}

// look compares what is there after a kill, and what the run has said, with what must be.
func (f *fire) look(to *target, events []lab.Event, killed bool) (complete bool, err error) {
	got, err := os.ReadFile(filepath.Join(to.dir, "f.img"))
	switch {
	case err != nil && to.overwrite:
		return false, fmt.Errorf("the old file is gone: %w", err)
	case err == nil && !bytes.Equal(got, f.want) && !(to.overwrite && bytes.Equal(got, f.older)):
		return false, fmt.Errorf("the file has %d bytes that are neither the old nor the new ones", len(got))
	}
	for _, e := range events {
		switch {
		case e.T == "error" && f.classic && e.Code == "E-EXISTS" && err == nil && bytes.Equal(got, f.want):
		case e.T == "error" && slices.Contains(wrong, e.Code):
			return false, fmt.Errorf("%s: %s: %s", e.Code, e.What, e.Cause)
		case e.T == "error" && !killed:
			f.w.count(f.String()+" runs that ended with "+e.Code, 1)
		case e.T == "start" && e.Resumed < to.there:
			return false, fmt.Errorf("%d bytes were on disk, and only %d were found", to.there, e.Resumed)
		case e.T == "done":
			complete = true
		}
	}
	if f.classic && err == nil {
		complete = true // it was killed after it gave the file its name
	}
	if !f.classic && !complete {
		to.there = f.onDisk(to.dir)
	}
	return complete, nil
}

// onDisk returns how many bytes of a download are there in whole pieces, whatever its journal says: who is killed loses nothing that was written.
func (f *fire) onDisk(dir string) (n int64) {
	const piece = 64 << 10
	partial, _ := filepath.Glob(filepath.Join(dir, ".shoal-*", "data"))
	if len(partial) == 0 {
		return 0
	}
	data, err := os.ReadFile(partial[0])
	if err != nil {
		return 0
	}
	for at := 0; at < min(len(data), len(f.want)); at += piece {
		if end := min(at+piece, len(f.want)); end <= len(data) && bytes.Equal(data[at:end], f.want[at:end]) {
			n += int64(end - at)
		}
	}
	return n
}

// finish lets a run go to its end, and looks at what is left.
func (f *fire) finish(ctx context.Context, to target) error {
	for tries := 0; ; tries++ {
		_, there := os.Stat(filepath.Join(to.dir, "f.img"))
		p, err := f.get(ctx, to)
		if err != nil {
			return err
		}
		var e lab.Event
		if e, err = p.Await("done"); err == nil {
			_, err = p.Wait()
		} else {
			p.Kill()
		}
		if there == nil && f.classic && e.Code == "E-EXISTS" {
			err = nil // without an id nobody knows that it is complete: it is not replaced
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			break
		}
		// Those who were killed last may need a moment to be known again.
		if f.w.count("last runs that had to be repeated", 1); tries == 3 {
			return fmt.Errorf("the last run, in peace: %w", err)
		}
		lab.Sleep(ctx, time.Second)
	}
	if got, err := os.ReadFile(filepath.Join(to.dir, "f.img")); err != nil || !bytes.Equal(got, f.want) {
		return fmt.Errorf("the file is wrong in the end: %d bytes (%v)", len(got), err)
	}
	entries, err := os.ReadDir(to.dir)
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("left behind: %v (%v)", entries, err)
	}
	f.w.count("downloads completed", 1)
	return nil
}

func killFigures(t totals) []figure {
	kills := atLeast("G1", "SIGKILLs at any instant", t.counts["kills"], killGoal)
	var of []string
	for _, who := range []string{"server", "source", "downloader"} {
		of = append(of, fmt.Sprintf("%s %s and %s", who, number(t.counts["v2 "+who]), number(t.counts["classic "+who])))
	}
	kills.Value += " (of v2 and classic: " + strings.Join(of, ", ") + ")"
	wrongs := none("G1", "files that were wrong, lost or left behind, runs that did not go on", float64(t.failures))
	wrongs.Reason = "instants are chance; each operation by its name is the power stage's"
	return []figure{kills, wrongs}
}
