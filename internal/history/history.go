// Package history keeps what a machine transfers, for shoal status, which is another process: what is under way, and the last that ended. Each
// transfer is a small file of its own in one folder, so that no process waits for another and a crash spoils nothing:
//
//   - RANDOM.running is replaced every second while a transfer runs (every 5 while nothing moves), and removed at its end. One that is older than that by far was left
//     behind.
//   - TIME-RANDOM.done is a transfer that has ended. The newest [Kept] are kept.
//
// It is for people to look at: nothing depends on it, and what cannot be read is left out.
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// Kept is how many transfers that have ended are kept.
	Kept = 32
	// Every is how often a running transfer says how it is, Still how often while nothing moves.
	Every = time.Second
	Still = 5 * time.Second
	// stale is how old the word of a running transfer may be.
	stale = 10 * time.Second
	// maxFile bounds what is read of a file.
	maxFile = 64 << 10
)

// Kinds of transfers.
const (
	Get   = "get"
	Share = "share"
)

// Record is a transfer, as a file has it and as --json prints it. Sizes are bytes, rates bytes per second, times seconds.
type Record struct {
	V       int       `json:"v"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Size    int64     `json:"size"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Done    int64     `json:"done"`    // of the size: what is there
	Fetched int64     `json:"fetched"` // in this run
	Sent    int64     `json:"sent"`
	Rate    int64     `json:"rate"` // of a running one now, else the mean
	Sources int       `json:"sources"`
	Copies  int       `json:"copies"`
	// Optimal is how many times as long it has taken as what the best rate that was seen allows; 0: nothing can be said.
	Optimal float64 `json:"optimal,omitempty"`
}

// Ended returns when it ended, or was told of last.
func (r Record) Ended() time.Time {
	return r.Began.Add(time.Duration(r.Seconds * float64(time.Second)))
}

// Folder is where a machine keeps its transfers.
type Folder struct{ dir string }

// In returns the folder of transfers in a state folder. It is made when there is something to keep.
func In(state string) *Folder { return &Folder{filepath.Join(state, "transfers")} }

// Running is a transfer under way. Its methods are for one goroutine.
type Running struct {
	f    *Folder
	path string
	last Record // that was written
}

// Start begins to tell of a transfer.
func (f *Folder) Start(r Record) (*Running, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	t, err := os.CreateTemp(f.dir, "*.running")
	if err != nil {
		return nil, err
	}
	run := &Running{f: f, path: t.Name()}
	return run, errors.Join(t.Close(), run.Update(r))
}

// Same says whether nothing has changed but the time since [Running.Update].
func (r *Running) Same(rec Record) bool {
	rec.Seconds = r.last.Seconds
	return rec == r.last
}

// Update tells how it is.
func (r *Running) Update(rec Record) error {
	r.last = rec
	return write(r.path, rec)
}

// End removes what was told. With last it is a transfer that has ended, and is kept.
func (r *Running) End(last *Record) error {
	err := os.Remove(r.path)
	if last == nil {
		return err
	}
	random := strings.TrimSuffix(filepath.Base(r.path), ".running")
	name := fmt.Sprintf("%016x-%s.done", time.Now().UnixNano(), random)
	return errors.Join(err, write(filepath.Join(r.f.dir, name), *last), r.f.trim())
}

// write replaces a file, so that who reads it sees the old one or the new one.
func write(path string, rec Record) error {
	rec.V = 1
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}

// trim removes what is too old, and what a process left behind that was killed while it wrote.
func (f *Folder) trim() error {
	done, err := f.names(".done")
	old := done[:max(0, len(done)-Kept)]
	parts, _ := f.names(".new")
	for _, name := range parts {
		if fi, err := os.Stat(filepath.Join(f.dir, name)); err == nil && time.Since(fi.ModTime()) > stale {
			old = append(old, name)
		}
	}
	for _, name := range old {
		if e := os.Remove(filepath.Join(f.dir, name)); !errors.Is(e, fs.ErrNotExist) { // another has removed it
			err = errors.Join(err, e)
		}
	}
	return err
}

// names returns the files with such an end, the oldest first.
func (f *Folder) names(end string) (out []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), end) && e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, err
}

// List returns what is under way, and what has ended, the newest first.
func (f *Folder) List(now time.Time) (running, done []Record, err error) {
	names, err := f.names(".running")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		path := filepath.Join(f.dir, name)
		fi, err := os.Stat(path)
		switch rec, ok := read(path); {
		case err != nil:
		case now.Sub(fi.ModTime()) > stale:
			_ = os.Remove(path) // its process was killed; if it only slept, it writes another
		case ok:
			running = append(running, rec)
		}
	}
	slices.SortFunc(running, func(a, b Record) int { return b.Began.Compare(a.Began) })
	names, err = f.names(".done")
	for _, name := range slices.Backward(names) {
		if rec, ok := read(filepath.Join(f.dir, name)); ok && len(done) < Kept {
			done = append(done, rec)
		}
	}
	return running, done, err
}

func read(path string) (rec Record, ok bool) {
	fi, err := os.Stat(path)
	if err != nil || fi.Size() > maxFile {
		return rec, false
	}
	b, err := os.ReadFile(path)
	return rec, err == nil && json.Unmarshal(b, &rec) == nil && rec.V == 1
}
