//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// checkSafe refuses a file that says what this program may touch, if somebody else than its user and root could have written it. Anybody
// may read it: it has no secrets.
func checkSafe(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(fi, null) {
		return nil // it says nothing, whoever writes to it
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to another user, who could name any folder: chown %s", shellQuote(path))
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %04o), and name any folder: chmod go-w %s", fi.Mode().Perm(), shellQuote(path))
	}
	return nil
}
