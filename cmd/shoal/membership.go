package main

import (
	"context"
	"fmt"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

func newJoin(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "join LINK",
		Short:   "Join a swarm",
		Long:    `Join the swarm of a link that shoal link, shoal share or shoal server has printed. To join twice does no harm.`,
		Example: "  shoal join shoal://10.0.0.5:50001/...\n  shoal join --link-file - < link.txt",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			arg := ""
			if len(args) > 0 {
				arg = args[0]
			}
			text, err := readLink(e, arg, file)
			if err != nil {
				return err
			}
			link, err := identity.ParseLink(text)
			if err != nil {
				return err
			}
			sw, err := enterSwarm(cmd.Context(), e, link)
			if err != nil {
				return err
			}
			if e.json {
				printJSON(e.stdout, struct {
					V     int    `json:"v"`
					T     string `json:"t"`
					Swarm string `json:"swarm"`
					Peer  string `json:"peer"`
					Role  string `json:"role"`
				}{1, "joined", sw.ID().String(), identity.PeerText(sw.Self()), string(sw.Role())})
			} else if !e.quiet {
				e.screen.printf("This machine is %s in the swarm %s\n  next:  shoal ls    or  shoal share FILE\n",
					identity.PeerShort(sw.Self()), sw.ID().String()[:8])
			}
			return nil
		},
	}
	addJoinFlags(cmd, &file)
	return cmd
}

func newLink(e *env) *cobra.Command {
	var role string
	var life time.Duration
	var uses int
	cmd := &cobra.Command{
		Use:   "link [new|list|revoke ID]",
		Short: "Let others into the swarm: links, and what became of them",
		Long: `Print a link that lets machines into the swarm (new, which is also what link alone does), list the links that were made, or
revoke one. Links are made where the swarm server runs. Who has joined stays when a link is revoked: shoal members remove
ends a membership.`,
		Example: "  shoal link\n  shoal link new --role reader --life 1h --uses 10\n  shoal link list\n  shoal link revoke 3fa0c812",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sw, err := e.need()
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0, args[0] == "new" && len(args) == 1:
				return newLinkOf(e, sw, role, life, uses)
			case args[0] == "list" && len(args) == 1:
				return listLinks(e, sw)
			case args[0] == "revoke" && len(args) == 2:
				if !sw.IsServer() {
					return identity.ErrNoIssuer
				}
				if err := sw.RevokeToken(args[1]); err != nil {
					return &usageError{err.Error()}
				}
				return nil
			}
			return &usageError{"shoal link takes new, list, or revoke and an id"}
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "member", "what those may do who come with it: member, or reader (fetch and pass on, not offer)")
	f.DurationVar(&life, "life", identity.TokenLife, "how long it lets in (0: for ever)")
	f.IntVar(&uses, "uses", 0, "how many machines it lets in (0: any number)")
	return cmd
}

func newLinkOf(e *env, sw *identity.Swarm, role string, life time.Duration, uses int) error {
	if r := identity.Role(role); r != identity.MemberRole && r != identity.Reader {
		return &usageError{"--role is member or reader"}
	}
	if life < 0 || uses < 0 {
		return &usageError{"--life and --uses must not be below 0"}
	}
	token, info, err := sw.NewToken(identity.Role(role), life, uses, time.Now())
	if err != nil {
		return err
	}
	link := sw.Link(token, "", content.Prefix{}).String()
	if e.json {
		printJSON(e.stdout, struct {
			V    int    `json:"v"`
			T    string `json:"t"`
			ID   string `json:"id"`
			Link string `json:"link"`
		}{1, "link", info.ID, link})
		return nil
	}
	fmt.Fprintln(e.stdout, link)
	if !e.quiet {
		e.screen.printf("  next:  shoal join %s    on the machines that are to come in\n", shellQuote(link))
	}
	return nil
}

func listLinks(e *env, sw *identity.Swarm) error {
	if !sw.IsServer() {
		return identity.ErrNoIssuer
	}
	tokens, err := sw.Tokens()
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if e.json {
			printJSON(e.stdout, struct {
				V       int       `json:"v"`
				T       string    `json:"t"`
				ID      string    `json:"id"`
				Role    string    `json:"role"`
				Made    time.Time `json:"made"`
				Expires time.Time `json:"expires,omitzero"`
				Used    int       `json:"used"`
				Uses    int       `json:"uses"`
			}{1, "token", t.ID, string(t.Role), t.Made, t.Expires, t.Used, t.Uses})
			continue
		}
		until := "for ever"
		if !t.Expires.IsZero() {
			until = "until " + t.Expires.Local().Format("2006-01-02 15:04")
		}
		limit := ""
		if t.Uses > 0 {
			limit = fmt.Sprintf(" of %d", t.Uses)
		}
		fmt.Fprintf(e.stdout, "%s  %-6s  %s  used %d%s times\n", t.ID, t.Role, until, t.Used, limit)
	}
	return nil
}

func newMembers(e *env) *cobra.Command {
	var p peerFlags
	cmd := &cobra.Command{
		Use:   "members [remove PEER]",
		Short: "List who is a member of the swarm; end a membership",
		Long: `List all who ever joined the swarm, whether they are there or not. remove ends a membership for good, wherever that member
is: it is done on the machine of the swarm server.`,
		Example: "  shoal members\n  shoal members remove k3jq7ab2cd",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return e.inSwarm(cmd.Context(), p, func(ctx context.Context, m *node.Member) error { return listMembers(ctx, e, m, true) })
			}
			if args[0] != "remove" || len(args) != 2 {
				return &usageError{"shoal members takes nothing, or remove and a peer's id"}
			}
			return removeMember(e, args[1])
		},
	}
	return cmd
}

func removeMember(e *env, who string) error {
	sw, err := e.need()
	if err != nil {
		return err
	}
	var found []wire.Member
	for _, m := range sw.Members() {
		if text := identity.PeerText(m.ID); len(who) >= 6 && len(who) <= len(text) && text[:len(who)] == who {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return &usageError{fmt.Sprintf("%d members have an id that begins with %s (at least 6 characters): shoal members", len(found), quote(who))}
	}
	if _, err := sw.Remove(found[0].ID); err != nil {
		return err
	}
	if !e.quiet && !e.json {
		e.screen.printf("%s %s is no member of the swarm any more\n", identity.PeerShort(found[0].ID), quote(found[0].Name))
	}
	return nil
}

// listMembers prints who is there, or who ever joined.
func listMembers(ctx context.Context, e *env, m *node.Member, all bool) error {
	members, err := m.Who(ctx, all)
	if err != nil {
		return err
	}
	shown := 0
	for _, who := range members {
		if who.ID == m.Self() && who.Online && !all {
			continue // this command
		}
		shown++
		protocol := "shoal/2"
		if who.Role == "" {
			protocol = "classic"
		}
		if e.json {
			id := ""
			if who.Role != "" {
				id = identity.PeerText(who.ID)
			}
			printJSON(e.stdout, struct {
				V        int      `json:"v"`
				T        string   `json:"t"`
				Peer     string   `json:"peer,omitempty"`
				Name     string   `json:"name,omitempty"`
				Role     string   `json:"role,omitempty"`
				Addrs    []string `json:"addrs,omitempty"`
				Online   bool     `json:"online"`
				Removed  bool     `json:"removed,omitempty"`
				Shares   uint64   `json:"shares"`
				Protocol string   `json:"protocol"`
			}{1, "peer", id, who.Name, who.Role, who.Addrs, who.Online, who.Removed, who.Shares, protocol})
			continue
		}
		state := "here"
		switch {
		case who.Removed:
			state = "removed"
		case !who.Online:
			state = "away"
		}
		addr := "-"
		if len(who.Addrs) > 0 {
			addr = who.Addrs[0]
		}
		if who.Role == "" {
			fmt.Fprintf(e.stdout, "%-10s  %-7s  %-7s  %-21s\n", "-", "classic", state, addr)
			continue
		}
		fmt.Fprintf(e.stdout, "%s  %-7s  %-7s  %-21s  %s\n", identity.PeerShort(who.ID), who.Role, state, addr, printable(who.Name))
	}
	if shown == 0 && !e.json && !e.quiet {
		e.screen.printf("nobody else is in the swarm\n  next:  shoal link    prints what lets others in\n")
	}
	return nil
}
