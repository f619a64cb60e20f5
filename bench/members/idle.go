//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"shoal/bench/internal/lab"
)

// quietTime is how long the server's idleness is measured.
const quietTime = 10 * time.Second

// measureIdle prints what idle members cost.
func (b *bench) measureIdle(ctx context.Context) error {
	if len(b.idle) == 0 {
		return nil
	}
	fmt.Printf("\n### Idle members\n\n" +
		"| members | server KiB/member | server MiB before | after | peak | kernel KiB/member, both ends | server CPU s in 10 s idle |\n" +
		"| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, n := range b.idle {
		row, err := b.idleRow(ctx, n)
		if err != nil {
			return fmt.Errorf("%d members: %w", n, err)
		}
		fmt.Println(row)
	}
	return nil
}

func (b *bench) idleRow(ctx context.Context, n int) (row string, err error) {
	s, err := b.open(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	if _, err := lab.Calm(ctx, calmTime); err != nil {
		return "", err
	}
	before, kernelBefore, err := s.memory()
	if err != nil {
		return "", err
	}
	took, err := s.burst(ctx, n)
	if err != nil {
		return "", err
	}
	after, _, err := s.memory()
	if err != nil {
		return "", err
	}
	progress("%d members told of all after %.2f s, server %.1f MiB", n, took.Seconds(), mib(after.Now))
	if err := lab.Sleep(ctx, b.settle); err != nil {
		return "", err
	}
	used, err := s.cpuOver(ctx, quietTime)
	if err != nil {
		return "", err
	}
	after, kernelAfter, err := s.memory()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("| %d | %.2f | %.1f | %.1f | %.1f | %.2f | %.3f |", n, kibEach(after.Now-before.Now, n),
		mib(before.Now), mib(after.Now), mib(after.Peak), kibEach(kernelAfter-kernelBefore, n), used.Seconds()), nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func kibEach(bytes int64, n int) float64 { return float64(bytes) / float64(n) / (1 << 10) }
