package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/bundle"
)

const (
	stateVersion = 1
	stateFile    = "peer.json"
	maxStateFile = 256 << 20
)

// ErrStateNewer is a state file that a later version has written.
var ErrStateNewer = errors.New("it was written by a later version of shoal")

// ErrState is a state file that cannot be read.
var ErrState = errors.New("the list of transfers cannot be read")

// Kind says what a transfer is.
type Kind string

// The kinds.
const (
	Share    Kind = "share"
	Download Kind = "download"
)

// Record is what is kept of a transfer: all that a restart needs.
type Record struct {
	ID        string        `json:"id"`
	Kind      Kind          `json:"kind"`
	Swarm     string        `json:"swarm"`
	Name      string        `json:"name"`              // under which it is shared, or which the swarm has for it
	What      string        `json:"what,omitempty"`    // that was asked for; of a link without what lets in
	Path      string        `json:"path,omitempty"`    // of the file; of a download: once it is known
	Folder    string        `json:"folder,omitempty"`  // it is shared since it lies in this watched folder
	Want      string        `json:"want,omitempty"`    // the beginning of the id that was asked for
	Dir       string        `json:"dir,omitempty"`     // of a download
	Target    string        `json:"target,omitempty"`  // empty: the name that the swarm has
	Content   string        `json:"content,omitempty"` // its id, once it is known
	Size      int64         `json:"size,omitempty"`
	Paused    bool          `json:"paused,omitempty"`
	Complete  bool          `json:"complete,omitempty"`
	Overwrite bool          `json:"overwrite,omitempty"`
	Wait      bool          `json:"wait,omitempty"`
	Once      bool          `json:"once,omitempty"` // it is taken off the list when it is complete
	Patience  time.Duration `json:"patience,omitempty"`
	Directory bool          `json:"directory,omitempty"` // of a download: once it is known, or a link says so
	ByLink    bool          `json:"by_link,omitempty"`   // a link says whether it is one
	Either    bool          `json:"either,omitempty"`    // Dir may be the directory itself, of an earlier run
	Only      []string      `json:"only,omitempty"`      // of a directory: patterns of what is wanted
	Except    []string      `json:"except,omitempty"`
	Spooled   bool          `json:"spooled,omitempty"` // the file is the peer's own: it goes with the share
	Added     time.Time     `json:"added"`
}

// selection is what of a directory is wanted.
func (r *Record) selection() bundle.Selection {
	return bundle.Selection{Only: r.Only, Except: r.Except}
}

// list is the state file.
type list struct {
	Version   int      `json:"version"`
	Limits    *Limits  `json:"limits,omitempty"` // set by hand; nil: those of the configuration
	Transfers []Record `json:"transfers"`
}

// load reads the list of a folder. One that is missing is empty.
func load(dir string) (list, error) {
	var l list
	path := filepath.Join(dir, stateFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return l, err
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return l, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	if version.Version > stateVersion {
		return l, fmt.Errorf("%s: %w", path, ErrStateNewer)
	}
	if err := json.Unmarshal(b, &l); err != nil || version.Version < 1 {
		return l, fmt.Errorf("%w: %s: version %d: %w", ErrState, path, version.Version, err)
	}
	l.share()
	return l, nil
}

// share lets records have their texts in common, where these are equal: there may be very many.
func (l *list) share() {
	known := make(map[string]string)
	one := func(s *string) {
		if k, ok := known[*s]; ok {
			*s = k
		} else {
			known[*s] = *s
		}
	}
	for i := range l.Transfers {
		r := &l.Transfers[i]
		one(&r.Swarm)
		one(&r.Folder)
		one(&r.Dir)
		if strings.HasSuffix(r.Path, r.Name) {
			r.Name = r.Path[len(r.Path)-len(r.Name):]
		}
		switch r.Kind {
		case Share:
			r.Kind = Share
		case Download:
			r.Kind = Download
		}
	}
}

// store replaces the list of a folder, so that a crash at any instant leaves the old one or the new one.
func (l list) store(dir string) error {
	l.Version = stateVersion
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+stateFile+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, stateFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync() // some file systems cannot
	return nil
}

// sweep removes what a crash in the middle of a store has left.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+stateFile+"-") {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
