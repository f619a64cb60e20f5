package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// SocketPath is where the peer of a state folder listens for its owner.
func SocketPath(dir string) string { return filepath.Join(dir, "control.sock") }

// ServerSocketPath is where the swarm server of a state folder listens for its owner.
func ServerSocketPath(dir string) string { return filepath.Join(dir, "server.sock") }

// maxSocketPath is what every system takes.
const maxSocketPath = 103

// ErrLongPath is a state folder in which no socket can be.
var ErrLongPath = errors.New("the path of the state folder is too long for a socket in it")

// Listen opens a socket in a state folder, which no other process opens: whoever calls it holds the folder, or the swarm's server.
// Only the same user and root are let in.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%w: %s has %d characters, at most %d", ErrLongPath, path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was killed has left it
		return nil, err
	}
	// The folder is its owner's alone, so nobody can connect before the mode is set.
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return &owned{ln.(*net.UnixListener)}, nil
}

// owned is a listener that only the owner of this process, or root, can connect to.
type owned struct{ *net.UnixListener }

func (l *owned) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if mayControl(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

// Dial returns a client of who listens on a socket, nil if nobody does.
func Dial(ctx context.Context, path string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil
	}
	conn.Close()
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}
