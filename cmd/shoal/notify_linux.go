package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd how the service is (sd_notify(3)). Without systemd it tells nobody.
type notifier struct {
	conn  *net.UnixConn
	every time.Duration // between two signs of life; 0: none are wanted
	said  time.Time     // of the last one
	last  string
}

func newNotifier() *notifier {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return &notifier{}
	}
	if path[0] == '@' { // an abstract name
		path = "\x00" + path[1:]
	}
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "unixgram", path)
	if err != nil {
		return &notifier{}
	}
	n := &notifier{conn: conn.(*net.UnixConn)}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(usec) * time.Microsecond / 3
	}
	return n
}

// say sends a message. It does not wait for a systemd that does not read.
func (n *notifier) say(format string, args ...any) {
	if n.conn != nil {
		_ = n.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = fmt.Fprintf(n.conn, format, args...)
	}
}

// beat is called by the engine's loop: a loop that hangs gives no sign of life.
func (n *notifier) beat(status string) {
	if n.every > 0 && time.Since(n.said) >= n.every {
		n.said = time.Now()
		n.say("WATCHDOG=1")
	}
	if status != n.last {
		n.last = status
		n.say("STATUS=%s", status)
	}
}

func (n *notifier) reloading() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		n.say("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000)
	}
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close()
	}
}
