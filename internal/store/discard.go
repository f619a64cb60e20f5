package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Discard removes what the verified download of a key has left in a folder, if nobody is at work on it.
func Discard(dir, key string) error {
	root, err := System().OpenFolder(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if fi, err := root.Lstat(PartialDir(key)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	} else if !fi.IsDir() || !isOurs(fi) {
		return fmt.Errorf("%s: %w", filepath.Join(dir, PartialDir(key)), ErrExists)
	}
	d := &Download{root: root, dir: PartialDir(key)}
	if d.lock, err = root.Open(d.name("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := d.lock.Lock(); err != nil {
		d.lock.Close()
		return fmt.Errorf("%s: %w", filepath.Join(dir, d.dir), ErrLocked)
	}
	return d.removeTraces()
}
