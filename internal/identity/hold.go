package identity

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// HeldError is a state folder that another process works with.
type HeldError struct{ Dir, By string }

func (e *HeldError) Error() string { return fmt.Sprintf("%s is in use by %s", e.Dir, e.By) }

// Hold makes this process the only long-running peer of the folder until the returned lock is closed. Who is what the others are
// told. The lock ends with the process, however it ends.
func (st *States) Hold(who string) (io.Closer, error) {
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkOwn(st.dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(st.dir, "peer.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if tryLock(f) != nil {
		defer f.Close()
		b := make([]byte, 200)
		n, _ := f.ReadAt(b, 0)
		return nil, &HeldError{st.dir, strings.TrimSpace(string(b[:n]))}
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(who+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
