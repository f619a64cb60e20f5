//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"shoal/bench/internal/lab"
)

// aria2 is the reference: BitTorrent as Debian's aria2c speaks it, with a tracker and nothing else that finds peers.
type aria2 struct{}

func (aria2) name() string { return "aria2" }

// share starts the tracker on the server's machine, writes the torrent, and seeds on machine 0.
func (aria2) share(ctx context.Context, c *crowd) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(serverAddr, "6969")
	args := c.net.server().within(self, "tracker", addr)
	p, err := lab.Start(ctx, c.dir, args[0], args[1:]...)
	if err != nil {
		return err
	}
	c.tracker = p // its processor time is no part of aria2's
	if _, err := p.Await("listening"); err != nil {
		return err
	}
	f, err := os.Open(c.files[0])
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := pieceSize(f)
	if err != nil {
		return err
	}
	b, err := torrent("http://"+addr+"/announce", filepath.Base(c.files[0]), int(size), f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(torrentOf(c), b, 0o600); err != nil {
		return err
	}
	for _, t := range []string{"start", "done"} { // what the hooks of a leecher print
		script := fmt.Sprintf("#!/bin/sh\necho '{\"t\":\"%s\"}'\n", t)
		if err := os.WriteFile(filepath.Join(c.dir, t+".sh"), []byte(script), 0o700); err != nil {
			return err
		}
	}
	args = c.net.machines[0].within(append(aria2c(filepath.Dir(c.files[0])), "--check-integrity=true", torrentOf(c))...)
	if c.source, err = lab.Start(ctx, c.dir, args[0], args[1:]...); err != nil {
		return err
	}
	_, err = p.Await("seed")
	return err
}

func torrentOf(c *crowd) string { return filepath.Join(c.dir, "flash.torrent") }

// aria2c is the command of every peer, up to what differs.
func aria2c(dir string) []string {
	return []string{
		"aria2c", "--no-conf=true", "--quiet=true", "--summary-interval=0", "--dir=" + dir, "--file-allocation=none",
		"--listen-port=6881", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
		"--bt-max-peers=" + strconv.Itoa(55), "--max-overall-upload-limit=0", "--seed-ratio=0.0", "--seed-time=100000",
		"--auto-save-interval=1", "--allow-overwrite=true",
	}
}

func (aria2) get(c *crowd, i int, again bool) []string {
	args := append(aria2c(c.leechers[i].dir),
		"--on-download-start="+filepath.Join(c.dir, "start.sh"), "--on-bt-download-complete="+filepath.Join(c.dir, "done.sh"))
	if again {
		args = append(args, "--check-integrity=true")
	}
	return append(args, torrentOf(c))
}

func (aria2) partial(dir, name string) string { return filepath.Join(dir, name) }
