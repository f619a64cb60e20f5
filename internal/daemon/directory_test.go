package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/internal/node"
)

// tree makes a directory called d, and returns its path.
func (l *lab) tree() string {
	l.t.Helper()
	d := filepath.Join(l.t.TempDir(), "d")
	l.put(d, "a", 200_000)
	l.put(d, "sub/b", 70_000)
	l.put(d, "sub/empty", 0)
	if err := os.Symlink("sub/b", filepath.Join(d, "link")); err != nil {
		l.t.Fatal(err)
	}
	return d
}

func (l *lab) put(dir, name string, size int) {
	l.t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	_, b := l.file(size)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// isTree says whether two directories have the same files of the names.
func (l *lab) isTree(got, want string, names ...string) {
	l.t.Helper()
	for _, name := range names {
		a, err := os.ReadFile(filepath.Join(got, name))
		b, _ := os.ReadFile(filepath.Join(want, name))
		if err != nil || string(a) != string(b) {
			l.t.Errorf("%s differs: %v", name, err)
		}
	}
}

func (l *lab) get(r *running, req DownloadRequest) Row {
	l.t.Helper()
	row, err := r.AddDownload(l.t.Context(), req)
	if err != nil {
		l.t.Fatal(err)
	}
	return row
}

func TestDirectoriesSurviveARestart(t *testing.T) {
	l := newLab(t)
	src, stateA, stateB, dir := l.tree(), l.machine(), l.machine(), t.TempDir()
	a, b := l.run(stateA, Settings{}), l.run(stateB, Settings{})
	shared := l.share(a, src)
	if !shared.Directory || shared.Size < 270_000 || shared.Name != "d" {
		t.Errorf("%+v", shared)
	}
	a.stop()
	a = l.run(stateA, Settings{})
	if again := a.becomes(t, shared.ID, Seeding); again.Content != shared.Content {
		t.Errorf("%+v", again)
	}
	row := l.get(b, DownloadRequest{What: "d", Dir: dir})
	if done := b.becomes(t, row.ID, Complete); !done.Directory || done.Partly || done.Path != filepath.Join(dir, "d") {
		t.Errorf("%+v", done)
	}
	l.isTree(filepath.Join(dir, "d"), src, "a", "sub/b", "sub/empty", "link")
	a.stop()
	b.stop()
	b = l.run(stateB, Settings{}) // it gives what it has fetched, in its second life
	if again := b.becomes(t, row.ID, Complete); again.Kept {
		t.Errorf("%+v", again)
	}
	c, dirC := l.run(l.machine(), Settings{}), t.TempDir()
	c.becomes(t, l.get(c, DownloadRequest{What: shared.Content[:16], Dir: dirC, Target: "e", Wait: true}).ID, Complete)
	l.isTree(filepath.Join(dirC, "e"), src, "a", "sub/b")
}

func TestADownloadOfADirectoryGoesOnAfterARestart(t *testing.T) {
	l := newLab(t)
	src, stateB, dir := l.tree(), l.machine(), t.TempDir()
	a, b := l.run(l.machine(), Settings{}), l.run(stateB, Settings{})
	row := l.get(b, DownloadRequest{What: "d", Dir: dir, Only: []string{"sub"}, Wait: true})
	b.becomes(t, row.ID, Waiting)
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = l.run(stateB, Settings{})
	b.becomes(t, row.ID, Paused)
	l.share(a, src)
	if _, err := b.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if done := b.becomes(t, row.ID, Complete); !done.Partly || !done.Directory {
		t.Errorf("%+v", done)
	}
	l.isTree(filepath.Join(dir, "d"), src, "sub/b")
	if _, err := os.Stat(filepath.Join(dir, "d", "a")); err == nil {
		t.Error("what was not wanted is there")
	}
	b.stop()
	b = l.run(stateB, Settings{})
	if done := b.becomes(t, row.ID, Complete); !done.Kept {
		t.Errorf("a part of a directory is given as if it were all: %+v", done)
	}
	// More of it can be wanted, one part after the other.
	for _, only := range [][]string{{"link"}, {"a"}, nil} {
		more := l.get(b, DownloadRequest{What: "d", Dir: dir, Only: only, Overwrite: true})
		deadline := time.Now().Add(30 * time.Second)
		for b.becomes(t, more.ID, Complete); only != nil && b.isGiving(t, more.ID); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it never rests")
			}
		}
	}
	l.isTree(filepath.Join(dir, "d"), src, "a", "sub/b", "sub/empty", "link")
}

// isGiving says whether a download that is complete still gives what it has fetched.
func (r *running) isGiving(t *testing.T, id string) (gives bool) {
	t.Helper()
	if err := r.call(t.Context(), func() error { gives = r.transfers[id].fetch != nil; return nil }); err != nil {
		t.Fatal(err)
	}
	return gives
}

func TestARemovedDirectoryIsLeftAloneUnlessItIsExactlyThat(t *testing.T) {
	l := newLab(t)
	a, b := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{})
	l.share(a, l.tree())
	for _, more := range []bool{false, true} {
		dir := t.TempDir()
		row := l.get(b, DownloadRequest{What: "d", Dir: dir})
		b.becomes(t, row.ID, Complete)
		if more {
			l.put(filepath.Join(dir, "d"), "ours", 10)
		}
		if err := b.Remove(t.Context(), row.ID, true); errors.Is(err, ErrMore) != more || !more && err != nil {
			t.Errorf("with more in it %v: %v", more, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "d", "a")); (err == nil) != more {
			t.Errorf("with more in it %v: %v", more, err)
		}
		if _, err := b.Detail(t.Context(), row.ID); (err == nil) != more {
			t.Errorf("with more in it %v: it is on the list: %v", more, err)
		}
	}
}

func TestADirectoryThatIsSharedAgainIsLookedAtAgain(t *testing.T) {
	l := newLab(t)
	src, a := l.tree(), l.run(l.machine(), Settings{})
	first := l.share(a, src)
	if again := l.share(a, src); again.ID != first.ID || again.Content != first.Content {
		t.Errorf("%+v", again)
	}
	l.put(src, "new", 1000)
	if _, err := a.AddShare(t.Context(), ShareRequest{Path: src}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		now := a.becomes(t, first.ID, Seeding)
		if now.Content != first.Content {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what was added is not shared")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestWhatCameFromAPipeGoesWithItsShare(t *testing.T) {
	l := newLab(t)
	state := l.machine()
	a := l.run(state, Settings{})
	l.put(Spool(state), "x", 1000)
	path := filepath.Join(Spool(state), "x")
	if _, err := a.AddShare(t.Context(), ShareRequest{Path: l.tree() + "/a", Spooled: true}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("any file passes for one of the peer's own: %v", err)
	}
	row, err := a.AddShare(t.Context(), ShareRequest{Path: path, Name: "out", Spooled: true})
	if err != nil {
		t.Fatal(err)
	}
	a.becomes(t, row.ID, Seeding)
	old := time.Now().Add(-2 * spoolAge)
	l.put(Spool(state), "lost", 10)
	for _, name := range []string{"x", "lost"} {
		if err := os.Chtimes(filepath.Join(Spool(state), name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	a.stop()
	a = l.run(state, Settings{})
	if _, err := os.Stat(filepath.Join(Spool(state), "lost")); err == nil {
		t.Error("what no share is of is kept for ever")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), row.ID, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file stays")
	}
}

func TestASecondGetOfTheSameJoinsTheFirst(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(1 << 20)
	a, b, dir := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{}), t.TempDir()
	idle := l.share(a, path)
	if _, err := a.Pause(t.Context(), idle.ID); err != nil {
		t.Fatal(err)
	}
	first := l.get(b, DownloadRequest{What: "f.bin", Dir: dir, Wait: true})
	second := l.get(b, DownloadRequest{What: "F.BIN", Content: idle.Content, Dir: dir, Target: "f.bin", Wait: true})
	if first.ID == second.ID {
		t.Fatal("nothing says that they are the same yet")
	}
	if _, err := a.Resume(t.Context(), idle.ID); err != nil {
		t.Fatal(err)
	}
	if x, y := b.becomes(t, first.ID, Complete), b.becomes(t, second.ID, Complete); x.ID != y.ID {
		t.Errorf("two transfers of one file: %+v and %+v", x, y)
	}
	if _, n, _ := b.List(t.Context(), 0, 10); n != 1 {
		t.Errorf("%d transfers", n)
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(1 << 20)
	a, b := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{})
	row := l.get(b, DownloadRequest{What: "f.bin", Dir: t.TempDir(), Wait: true})
	lost := func() error { // its server
		x := b.transfers[row.ID]
		b.minRetry = 100 * time.Millisecond
		b.halt(x, func() { b.fail(x, &node.ServerError{Err: errors.New("gone")}) })
		return nil
	}
	if err := b.call(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	l.share(a, path)
	if done := b.becomes(t, row.ID, Complete); !done.Retry.IsZero() || done.Failure != nil {
		t.Errorf("%+v", done)
	}
	row = l.get(b, DownloadRequest{What: "nobody has that", Dir: t.TempDir(), Patience: time.Second})
	if failed := b.becomes(t, row.ID, Failed); !failed.Retry.IsZero() {
		t.Errorf("what is not there is tried again: %+v", failed)
	}
}

// What a download has found is kept at once, and nobody who has it for a while after a restart is no reason to give it up.
func TestADownloadThatWasFoundSurvivesTheLossOfItsSource(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(1 << 20)
	stateA, stateB := l.machine(), l.machine()
	a, b := l.run(stateA, Settings{}), l.run(stateB, Settings{Reserve: 1 << 60})
	l.share(a, path)
	row := l.get(b, DownloadRequest{What: "f.bin", Dir: t.TempDir()})
	deadline := time.Now().Add(30 * time.Second)
	for full := false; !full; time.Sleep(10 * time.Millisecond) {
		if d, err := b.Detail(t.Context(), row.ID); err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", d.Row, err)
		} else {
			full = d.DiskFull
		}
	}
	kept, err := load(stateB) // as it is for one who is killed now
	if err != nil || len(kept.Transfers) != 1 || kept.Transfers[0].Content == "" {
		t.Fatalf("%+v, %v", kept, err)
	}
	for _, none := range []error{&node.NoContentError{What: "f.bin"}, &node.ServerError{}} {
		for text, x := range map[string]struct {
			t    *transfer
			want bool
		}{
			"found": {newTransfer(kept.Transfers[0]), true},
			"new":   {newTransfer(Record{Kind: Download}), !errors.As(none, new(*node.NoContentError))},
			"share": {newTransfer(Record{Kind: Share}), false},
		} {
			if got := x.t.passes(none); got != x.want {
				t.Errorf("%s, %T: %v", text, none, got)
			}
		}
	}
}
