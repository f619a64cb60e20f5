//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"shoal/bench/internal/lab"

	"golang.org/x/sync/errgroup"
)

// ours is the program of this repository.
type ours struct{}

func (ours) name() string { return "shoal" }

// share starts the swarm server on a machine of its own, lets all others into the swarm, and shares the contents on machine 0.
func (ours) share(ctx context.Context, c *crowd) error {
	hub := c.net.server()
	args := hub.within(c.shoal, "server", "--json", verbose(c), "--state", c.state(len(c.net.machines)))
	server, err := lab.Start(ctx, c.logs(len(c.net.machines)), args[0], args[1:]...)
	if err != nil {
		return err
	}
	c.helpers = append(c.helpers, server)
	listening, err := server.Await("listening")
	if err != nil {
		return err
	}
	c.link = listening.Link
	g, joining := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, m := range c.net.machines[:len(c.net.machines)-1] {
		g.Go(func() error {
			args := m.within(c.shoal, "join", "-q", "--state", c.state(i), listening.Link)
			if out, err := exec.CommandContext(joining, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("join: %w: %s", err, out)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	args = c.net.machines[0].within(append([]string{c.shoal, "share", "--json", verbose(c), "--state", c.state(0), "--site", c.site(0)}, c.files...)...)
	if c.source, err = lab.Start(ctx, c.logs(0), args[0], args[1:]...); err != nil {
		return err
	}
	for range c.files {
		if _, err := c.source.Await("sharing"); err != nil {
			return err
		}
	}
	return nil
}

func (ours) get(c *crowd, i int, _ bool) []string {
	l := c.leechers[i]
	return []string{c.shoal, "get", filepath.Base(l.file), "--json", verbose(c), "--stay", "-o", l.dir, "--state", c.state(i + 1), "--site", c.site(i + 1)}
}

// verbose is the flag that makes the program say more, if that is kept.
func verbose(c *crowd) string { return "--verbose=" + strconv.FormatBool(c.talk) }

func (ours) partial(dir, _ string) string {
	found, err := filepath.Glob(filepath.Join(dir, ".shoal-*", "data"))
	if err != nil || len(found) != 1 {
		return ""
	}
	return found[0]
}
