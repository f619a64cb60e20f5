package api

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Another user of this machine is not let in, even if the file system would: who connects is asked for, and not only where.
func TestAnotherUserIsNotLetIn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir := t.TempDir()
	ln, err := Listen(SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, path := range []string{filepath.Dir(dir), dir, SocketPath(dir)} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	accepted := make(chan int)
	go func() {
		defer close(accepted)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			conn.Read(b)
			conn.Close()
			accepted <- int(b[0])
		}
	}()
	say := func(b byte) {
		conn, err := net.Dial("unix", SocketPath(dir))
		if err != nil {
			t.Error(err)
			return
		}
		conn.Write([]byte{b})
		conn.Close()
	}
	done := make(chan struct{})
	go func() { // its thread is not used again
		defer close(done)
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); e != 0 {
			t.Error(e)
			return
		}
		say(1)
	}()
	<-done
	go say(2)
	if who := <-accepted; who != 2 {
		t.Errorf("%d was let in", who)
	}
	ln.Close()
	for range accepted {
	}
}
