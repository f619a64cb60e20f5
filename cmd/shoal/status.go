package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

func newStatus(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the swarms of this machine, how they are, and what its peer does",
		Example: "  shoal status --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), e) },
	}
}

func runStatus(ctx context.Context, e *env) error {
	all, err := e.swarms()
	if err != nil {
		return err
	}
	c := e.peerHere(ctx)
	if len(all) == 0 && c == nil {
		return errNoSwarm
	}
	var worst error
	for _, sw := range all {
		var f swarmFacts
		if c != nil {
			f, err = c.facts(ctx, sw.ID())
		} else {
			f, err = lookAtSwarm(ctx, e, sw)
		}
		printSwarm(e, sw, f, err)
		worst = errors.Join(worst, err)
	}
	if c == nil {
		return errors.Join(worst, listTransfers(e))
	}
	rows, err := c.all(ctx)
	if err != nil {
		return err
	}
	if !e.json {
		fmt.Fprintf(e.stdout, "peer    runs here, %d transfers\n", len(rows))
	}
	for _, r := range rows {
		printTransfer(e, r)
	}
	return worst
}

// swarmFacts is what status says of a swarm.
type swarmFacts struct {
	here, files int
	bytes       int64
	up          time.Duration
	alone       bool // no server answers, but others on this network do
}

func (f *swarmFacts) add(entries []wire.Entry) {
	f.files = len(entries)
	for _, e := range entries {
		f.bytes += e.Size
	}
}

// lookAtSwarm asks a swarm as a member that comes and goes.
func lookAtSwarm(ctx context.Context, e *env, sw *identity.Swarm) (f swarmFacts, err error) {
	p := peerFlags{listen: ":0", asks: true}
	m, err := p.member(e, sw, slog.LevelError+4)
	if err != nil {
		return f, err
	}
	defer m.Close()
	err = m.Run(ctx, func(ctx context.Context) error { return f.ask(ctx, m) })
	return f, err
}

func (f *swarmFacts) ask(ctx context.Context, m *node.Member) error {
	who, err := m.Who(ctx, false)
	if err != nil {
		return err
	}
	entries, err := m.List(ctx)
	if err != nil {
		return err
	}
	if f.here, f.up, f.alone = len(who)-1, m.ServerAge(), m.Alone(); f.alone { // those on this network, without ourselves
		f.here, f.up = len(who), 0
	}
	f.add(entries)
	return nil
}

func printSwarm(e *env, sw *identity.Swarm, f swarmFacts, reach error) {
	if e.json {
		printJSON(e.stdout, struct {
			V         int      `json:"v"`
			T         string   `json:"t"`
			Swarm     string   `json:"swarm"`
			Servers   []string `json:"servers"`
			Peer      string   `json:"peer"`
			Role      string   `json:"role"`
			Reachable bool     `json:"reachable"`
			Up        float64  `json:"up"`
			Peers     int      `json:"peers"`
			Files     int      `json:"files"`
			Bytes     int64    `json:"bytes"`
		}{1, "swarm", sw.ID().String(), sw.Servers(), identity.PeerText(sw.Self()), string(sw.Role()), reach == nil && !f.alone, f.up.Seconds(), f.here, f.files, f.bytes})
		return
	}
	fmt.Fprintf(e.stdout, "swarm   %s  this machine is %s (%s)\n", sw.ID().String()[:8], identity.PeerShort(sw.Self()), sw.Role())
	if reach != nil {
		fmt.Fprintf(e.stdout, "server  %s  not reachable\n", strings.Join(sw.Servers(), ", "))
		return
	}
	if f.alone {
		fmt.Fprintf(e.stdout, "server  %s  not reachable\npeers   %d others on this network\nfiles   %d, %s there\n",
			strings.Join(sw.Servers(), ", "), f.here, f.files, size(f.bytes))
		return
	}
	fmt.Fprintf(e.stdout, "server  %s  up %s\npeers   %d others\nfiles   %d, %s\n",
		strings.Join(sw.Servers(), ", "), age(uint64(f.up.Seconds())), f.here, f.files, size(f.bytes))
}
