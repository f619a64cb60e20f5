//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"shoal/bench/internal/lab"
)

// The roles in which this program runs itself: the two ends of a bare copy. They print events as shoal does.
const (
	senderRole   = "bare-sender"
	receiverRole = "bare-receiver"
)

// sendBare sends the file at path to everyone who connects, until ctx ends. The library's copy from a file to a TCP
// connection is sendfile(2).
func sendBare(ctx context.Context, path string) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	tell(lab.Event{T: "listening", Addr: ln.Addr().String()})
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := sendFile(conn, path); err != nil {
			return err
		}
	}
}

func sendFile(conn net.Conn, path string) error {
	defer conn.Close()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(conn, f)
	return err
}

// receiveBare fetches what the sender at addr sends into a new file. The library's copy from a TCP connection to a file
// is splice(2).
func receiveBare(addr, path string) error {
	conn, err := net.DialTimeout("tcp4", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadFrom(conn); err != nil {
		return err
	}
	tell(lab.Event{T: "copied", CPU: lab.OwnCPU().Seconds()})
	if err := f.Sync(); err != nil {
		return err
	}
	tell(lab.Event{T: "synced", CPU: lab.OwnCPU().Seconds()})
	return nil
}

func tell(e lab.Event) {
	b, err := json.Marshal(e)
	if err != nil {
		panic("classic: " + err.Error())
	}
	fmt.Println(string(b))
}
