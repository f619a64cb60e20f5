//go:build linux

package main

import (
	"context"
	"fmt"

	"shoal/bench/internal/lab"
)

// round is one burst, and single joins after it. All figures are seconds.
type round struct {
	burst     float64 // from the first add to the last message
	server    float64 // processor time of the server in the burst
	clients   float64 // of all members
	others    float64 // of everybody else, the kernel's own threads among them
	newcomers []newcomer
}

// measureJoins prints what bursts and single joins take.
func (b *bench) measureJoins(ctx context.Context) error {
	if b.join == 0 {
		return nil
	}
	var rounds []round
	for i := range b.bursts {
		joins := 0
		if i == b.bursts-1 {
			joins = b.joins // while the members are there
		}
		r, err := b.joinRound(ctx, joins)
		if err != nil {
			return fmt.Errorf("burst of %d: %w", b.join, err)
		}
		progress("burst %d: %.3f s, CPU s of the server %.3f, members %.3f, others %.3f", i+1, r.burst, r.server, r.clients, r.others)
		rounds = append(rounds, r)
	}
	fmt.Printf("\n### %d members: joins\n\n| what | times | median | least | most |\n| --- | --- | --- | --- | --- |\n", b.join)
	printSpread("burst: first add to the last told of all, s", rounds, func(r round) float64 { return r.burst })
	printSpread("burst: server CPU s", rounds, func(r round) float64 { return r.server })
	printSpread("burst: members CPU s", rounds, func(r round) float64 { return r.clients })
	printSpread("burst: CPU s of others", rounds, func(r round) float64 { return r.others })
	single := rounds[len(rounds)-1].newcomers
	printSpread("one join: add to the last of the others told, ms", single, func(n newcomer) float64 { return n.others * 1000 })
	printSpread("one join: add to the newcomer told of all, ms", single, func(n newcomer) float64 { return n.own * 1000 })
	fmt.Println("\nThe members are one process, which shares the processors with the server.")
	return nil
}

func printSpread[T any](what string, measured []T, of func(T) float64) {
	var values []float64
	for _, m := range measured {
		values = append(values, of(m))
	}
	s := lab.Summarize(values)
	fmt.Printf("| %s | %d | %.3f | %.3f | %.3f |\n", what, len(values), s.Median, s.Min, s.Max)
}

func (b *bench) joinRound(ctx context.Context, joins int) (r round, err error) {
	s, err := b.open(ctx)
	if err != nil {
		return r, err
	}
	defer s.close()
	if _, err := lab.Calm(ctx, calmTime); err != nil {
		return r, err
	}
	if r, err = s.costOfBurst(ctx, b.join); err != nil {
		return r, err
	}
	for i := range joins {
		one, err := s.newcomer(ctx, i+1)
		if err != nil {
			return r, err
		}
		r.newcomers = append(r.newcomers, one)
	}
	return r, nil
}

// costOfBurst measures a burst of n members, and who used the processors meanwhile.
func (s *swarm) costOfBurst(ctx context.Context, n int) (r round, err error) {
	busy, err := lab.Busy()
	if err != nil {
		return r, err
	}
	server, err := lab.CPU(s.server.PID())
	if err != nil {
		return r, err
	}
	clients := lab.OwnCPU()
	took, err := s.burst(ctx, n)
	if err != nil {
		return r, err
	}
	clients = lab.OwnCPU() - clients
	serverAfter, err := lab.CPU(s.server.PID())
	if err != nil {
		return r, err
	}
	busyAfter, err := lab.Busy()
	server, busy = serverAfter-server, busyAfter-busy
	return round{
		burst: took.Seconds(), server: server.Seconds(), clients: clients.Seconds(),
		others: max(0, (busy - server - clients).Seconds()),
	}, err
}
