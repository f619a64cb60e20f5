package main

import (
	"fmt"
	"slices"
	"strings"

	"shoal/internal/sim"

	"github.com/spf13/cobra"
)

// newSim makes the hidden command that simulates swarms: docs/SCHEDULING.md has what it prints.
func newSim(e *env) *cobra.Command {
	size := sim.Sized{}
	seed, seeds := uint64(1), uint64(1)
	var only []string
	c := &cobra.Command{
		Use: "sim", Hidden: true, Args: cobra.NoArgs,
		Short:   "Simulate swarms in which the real schedule runs",
		Example: "  shoal sim\n  shoal sim --leechers 1000 --pieces 256 --neighbours 40 --scenario equal",
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(e.stdout, sim.Header)
			for s := seed; s < seed+seeds; s++ {
				for _, sc := range sim.Scenarios(size, s) {
					if len(only) == 0 || slices.Contains(only, sc.Name) {
						fmt.Fprintln(e.stdout, sc.Row(sc.Play()))
					}
				}
			}
			return nil
		},
	}
	c.Flags().IntVar(&size.N, "leechers", 24, "leechers")
	c.Flags().Uint32Var(&size.Pieces, "pieces", 256, "pieces of 128 KiB")
	c.Flags().IntVar(&size.Neighbours, "neighbours", 0, "neighbours that a peer connects to, of whom it keeps 40; 0: everybody")
	c.Flags().Int64Var(&size.Parts, "parts", 0, "parts of a piece, each of which is passed on when it has come; 0: as many as there are")
	c.Flags().Uint64Var(&seed, "seed", seed, "first seed")
	c.Flags().Uint64Var(&seeds, "seeds", seeds, "how many seeds")
	c.Flags().StringSliceVar(&only, "scenario", nil, "these only: "+strings.Join(scenarioNames(), ", "))
	return c
}

func scenarioNames() (out []string) {
	for _, sc := range sim.Scenarios(sim.Sized{N: 1, Pieces: 1}, 1) {
		out = append(out, sc.Name)
	}
	return out
}
