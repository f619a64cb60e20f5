package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestWhatRunsIsListedUntilItEnds(t *testing.T) {
	f := In(t.TempDir())
	if running, done, err := f.List(time.Now()); len(running)+len(done) > 0 || err != nil {
		t.Fatalf("of nothing: %v, %v, %v", running, done, err)
	}
	a, err := f.Start(Record{Kind: Get, Name: "a", Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Start(Record{Kind: Share, Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Update(Record{Kind: Get, Name: "a", Size: 100, Done: 50}); err != nil {
		t.Fatal(err)
	}
	running, done, err := f.List(time.Now())
	if len(running) != 2 || len(done) != 0 || err != nil || running[0].Done+running[1].Done != 50 {
		t.Errorf("%v, %v, %v", running, done, err)
	}
	if err := a.End(&Record{Kind: Get, Name: "a", Done: 100, Optimal: 1.07}); err != nil {
		t.Error(err)
	}
	if err := b.End(nil); err != nil {
		t.Error(err)
	}
	running, done, err = f.List(time.Now())
	if len(running) != 0 || len(done) != 1 || err != nil || done[0].Optimal != 1.07 || done[0].Name != "a" {
		t.Errorf("%v, %v, %v", running, done, err)
	}
}

func TestWhatWasLeftBehindIsNotShown(t *testing.T) {
	f := In(t.TempDir())
	run, err := f.Start(Record{Name: "killed"})
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"x.running", "x.done", "y.done"} {
		if err := os.WriteFile(filepath.Join(f.dir, broken), []byte(`{"v":1`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if running, _, err := f.List(time.Now()); len(running) != 1 || err != nil {
		t.Fatalf("%v, %v", running, err)
	}
	if running, done, err := f.List(time.Now().Add(stale + time.Second)); len(running)+len(done) != 0 || err != nil {
		t.Errorf("%v, %v, %v", running, done, err)
	}
	if names, _ := f.names(".running"); len(names) != 0 {
		t.Errorf("%v are kept for ever", names)
	}
	if err := run.Update(Record{Name: "slept"}); err != nil {
		t.Error(err)
	}
	if running, _, _ := f.List(time.Now()); len(running) != 1 {
		t.Error("one that only slept is not shown")
	}
}

// Many at once lose nothing, and only so many are kept.
func TestTheLastOnesAreKept(t *testing.T) {
	f := In(t.TempDir())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 20 {
				run, err := f.Start(Record{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := run.End(&Record{Name: fmt.Sprintf("%d/%02d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	part := filepath.Join(f.dir, "a.running.new")
	if err := errors.Join(os.WriteFile(part, nil, 0o600), os.Chtimes(part, time.Time{}, time.Now().Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	last, err := f.Start(Record{})
	if err != nil {
		t.Fatal(err)
	}
	if err := last.End(&Record{Name: "last"}); err != nil {
		t.Error(err)
	}
	running, done, err := f.List(time.Now())
	if len(running) != 0 || len(done) != Kept || err != nil || done[0].Name != "last" {
		t.Errorf("%d run, %d have ended, %v", len(running), len(done), err)
	}
	if entries, _ := os.ReadDir(f.dir); len(entries) != Kept {
		t.Errorf("%d files are kept", len(entries))
	}
}
