package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/identity"
)

// What a share costs while nobody exchanges it, in live bytes: a peer may have very many.
func TestAShareThatRestsIsSmall(t *testing.T) {
	const n, most = 1000, 2400
	l := &lab{t: t} // without a server, which would have them in memory as well
	state, folder := filepath.Join(t.TempDir(), "state"), t.TempDir()
	states, err := identity.OpenStates(state)
	if err == nil {
		_, err = states.Create()
	}
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for i := range n {
		path := filepath.Join(folder, fmt.Sprintf("file-%06d.bin", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "%d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first has found to be unused by finalizers
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, life := range []string{"first", "second"} {
		before := live()
		r := l.run(state, Settings{Folders: []string{folder}})
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if s, err := r.Stats(t.Context(), false); err == nil && s.States[Seeding] == n {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("%v, %v", s.States, err)
			}
		}
		// What was needed to get there is let go soon after.
		each := (live() - before) / n
		for deadline := time.Now().Add(20 * time.Second); each > most && time.Now().Before(deadline); each = (live() - before) / n {
			time.Sleep(50 * time.Millisecond)
		}
		if t.Logf("in its %s life a share has %d bytes", life, each); each > most {
			t.Errorf("in its %s life a share has %d bytes, want at most %d", life, each, most)
		}
		r.stop()
	}
}

// What is written to is shared once it is quiet, what vanishes is withdrawn, and what is hidden is left alone.
func TestAWatchedFolderSharesWhatIsQuiet(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		say := func(what string) func(string) {
			return func(path string) { mu.Lock(); defer mu.Unlock(); seen = append(seen, what+filepath.Base(path)) }
		}
		f := &folder{path: dir, appear: say("+"), vanish: say("-"), warn: say("!")}
		told := make(chan string)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.run(ctx, told) }()
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(seen, want) {
				t.Errorf("%v, want %v", seen, want)
			}
			seen = nil
		}
		size := 0
		write := func(name string) {
			t.Helper()
			size++
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			told <- path
		}
		for range 5 { // it grows
			write("a.img")
			write(".hidden")
			write("b.part")
			time.Sleep(quietTime - time.Second)
		}
		expect()
		time.Sleep(2 * time.Second)
		expect("+a.img")
		time.Sleep(time.Hour)
		expect()
		write("a.img")
		time.Sleep(quietTime)
		expect("+a.img")
		if err := os.Rename(filepath.Join(dir, "b.part"), filepath.Join(dir, "b.img")); err != nil {
			t.Fatal(err)
		}
		told <- filepath.Join(dir, "b.img")
		time.Sleep(quietTime)
		expect("+b.img")
		if err := os.Remove(filepath.Join(dir, "a.img")); err != nil {
			t.Fatal(err)
		}
		told <- filepath.Join(dir, "a.img")
		expect("-a.img")
		// Nobody tells of these: the next look does.
		if err := os.Remove(filepath.Join(dir, "b.img")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "c.img"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rescanEvery + quietTime)
		expect("-b.img", "+c.img")
		cancel()
		<-done
	})
}

// Of a folder with more files than are watched, some are left out, and that is said once.
func TestAFolderOfVeryMany(t *testing.T) {
	dir, said := t.TempDir(), 0
	f := &folder{path: dir, files: make(map[string]*watched), warn: func(string) { said++ }}
	for i := range maxWatched + 50 {
		file, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	f.scan(true)
	f.scan(false)
	if len(f.files) != maxWatched || said != 1 {
		t.Errorf("%d are watched, said %d times", len(f.files), said)
	}
}

func TestAFolderIsSharedAsItChanges(t *testing.T) {
	l := newLab(t)
	dir, state := t.TempDir(), l.machine()
	old := time.Now().Add(-time.Hour)
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1")
	put("b", "2")
	a := l.run(state, Settings{Folders: []string{dir}})
	await := func(want ...string) []Row {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			rows, _, err := a.List(t.Context(), 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				if r.State == Seeding {
					got = append(got, r.Name)
				}
			}
			slices.Sort(got)
			if slices.Equal(got, want) {
				return rows
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, want %v", got, want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	rows := await("a", "b")
	if err := a.Remove(t.Context(), rows[0].ID, false); err == nil {
		t.Error("what a watched folder shares can be removed from the list alone")
	}
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	put("c", "3")
	await("b", "c")
	a.stop()
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	put("c", "33") // it is another file now: in a watched folder that is no reason to ask
	a = l.run(state, Settings{Folders: []string{dir}})
	if rows := await("c"); rows[0].Size != 2 {
		t.Errorf("%+v", rows)
	}
	if err := a.Reload(t.Context(), Settings{}); err != nil {
		t.Fatal(err)
	}
	await()
}
