package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/internal/faulty"
	"shoal/internal/identity"
)

// behind runs a member that others can only dial through a relay, until the test ends.
func (l *lab) behind() (*Member, *faulty.Proxy) {
	l.t.Helper()
	relay, err := faulty.New("")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { relay.Close() })
	m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0", Announce: relay.Port()})
	ctx, cancel := context.WithCancel(l.t.Context())
	in, done := make(chan struct{}), make(chan error, 1)
	ln, err := m.listen()
	if err != nil {
		l.t.Fatal(err)
	}
	m.cfg.Listen = ln.Addr().String() // it is free, and known
	ln.Close()
	relay.Aim(m.cfg.Listen)
	go func() {
		done <- m.Run(ctx, func(ctx context.Context) error { close(in); <-ctx.Done(); return nil })
	}()
	select {
	case <-in:
	case err := <-done:
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { cancel(); <-done; m.Close() })
	return m, relay
}

// A bad line between two who have nobody else: whatever it does to what is sent, what arrives is the file, and nothing is fetched twice but what was
// under way when a connection ended.
func TestABadLineDelaysADownloadAndSpoilsNothing(t *testing.T) {
	const size, piece = 4 << 20, 64 << 10
	far := faulty.Fault{Delay: 40 * time.Millisecond, Jitter: 30 * time.Millisecond, Lost: 0.3, Again: 60 * time.Millisecond, Slice: 16 << 10}
	for name, c := range map[string]struct {
		down, up faulty.Fault
		cuts     bool // the connection ends again and again
	}{
		"far, and a third is lost and sent again": {down: far, up: far},
		"slices of odd sizes":                     {down: faulty.Fault{Slice: 1021}, up: faulty.Fault{Slice: 7}},
		"reset in the middle of a piece":          {down: faulty.Fault{After: 1<<20 + 12345, End: faulty.Reset}, cuts: true},
		"one direction closes":                    {down: faulty.Fault{After: 1<<20 + 12345, End: faulty.Half}, cuts: true},
		"a bit flips":                             {down: faulty.Fault{Flip: []int64{1<<20 + 77}}, cuts: true},
		"a bit flips in what is asked":            {up: faulty.Fault{Flip: []int64{3800}}, cuts: true}, // the handshake has 3,341 bytes
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			path, want := l.file(size)
			a, line := l.behind()
			shared, err := a.Share(t.Context(), path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			line.Set(faulty.Down, c.down)
			line.Set(faulty.Up, c.up)
			b, dead := l.behind()
			dead.Close() // it is dialled in vain: there is only the bad line
			b.SetLimits(0, 4<<20)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			dir := t.TempDir()
			var notes []string
			f := b.NewFetch(FetchRequest{ID: prefixOf(shared), Dir: dir, Note: func(s string) { notes = append(notes, s) }})
			got, err := f.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
				t.Error("the file differs")
			}
			if n := line.Connections(); c.cuts != (n > 1) {
				t.Errorf("%d connections were made", n)
			}
			if len(notes) > 0 {
				t.Errorf("somebody is blamed: %q", notes)
			}
			if got.Wasted > 64*piece {
				t.Errorf("%d bytes came in vain", got.Wasted)
			}
		})
	}
}
