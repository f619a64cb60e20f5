package daemon

import (
	"os"
	"path/filepath"
	"time"
)

// spoolAge is how old a file in the spool must be that no share is of before it is removed: a younger one may be written still.
const spoolAge = time.Hour

// Spool returns the folder for what came from a pipe, in the folder of a peer's state: it is shared as long as the share is on the list.
func Spool(state string) string {
	if abs, err := filepath.Abs(state); err == nil {
		state = abs
	}
	return filepath.Join(state, "spool")
}

// removeSpooled removes what came from a pipe.
func removeSpooled(state string, r Record) error {
	if filepath.Dir(r.Path) != Spool(state) {
		return nil
	}
	err := os.Remove(r.Path)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// sweepSpool removes what no share is of, such as a command has left that was killed.
func sweepSpool(state string, shares []Record, now time.Time) {
	used := make(map[string]bool)
	for _, r := range shares {
		if r.Spooled {
			used[r.Path] = true
		}
	}
	entries, _ := os.ReadDir(Spool(state))
	for _, e := range entries {
		path := filepath.Join(Spool(state), e.Name())
		if fi, err := e.Info(); err == nil && !used[path] && fi.Mode().IsRegular() && now.Sub(fi.ModTime()) > spoolAge {
			_ = os.Remove(path)
		}
	}
}
