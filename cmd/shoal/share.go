package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/swarm"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type shareOptions struct {
	peerFlags
	name         string
	once         bool
	http         bool
	serverListen string
}

func newShare(e *env) *cobra.Command {
	var o shareOptions
	cmd := &cobra.Command{
		Use:   "share PATH...",
		Short: "Share files and directories until Ctrl-C",
		Long: `Share files and directories with everyone in the swarm, from where they lie, until Ctrl-C. A machine that is in no swarm starts
one, and prints the line that the others paste. Where shoal peer runs, it is handed what is to be shared and shares it from then on, also after a restart.

Of a directory all files are shared, with their names and permissions, and links that stay inside it. Links that lead out of it, devices, pipes and
sockets are left out, and said so. A file that changes ends the sharing: start it again. So are files that are added shared.

With - standard input is shared, under the name that --name gives. It is read to its end into a file in the temporary folder (TMPDIR) first, since
a content is known only when all of it is; the file is removed at the end. The running peer keeps it in the folder  spool  of its state, until the share is
removed.`,
		Example: `  shoal share ubuntu.img
  shoal share model.bin photos/
  tar c /etc | shoal share - --name etc.tar
  shoal share --classic --server 10.0.0.5 old.iso    with the classic protocol`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runShare(cmd.Context(), e, o, args) },
	}
	o.add(cmd)
	o.addSite(cmd)
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "share the one file or directory under this name")
	f.BoolVar(&o.once, "once", false, "end when one whole copy was given")
	f.BoolVar(&o.http, "http", false, "print how curl gets the files from this machine")
	f.StringVar(&o.serverListen, "server-listen", ":50001", "where the swarm server listens that is started here")
	return cmd
}

func runShare(ctx context.Context, e *env, o shareOptions, files []string) error {
	if o.name != "" && len(files) > 1 {
		return &usageError{"--name goes with one file"}
	}
	if err := onlyFiles(o, files); err != nil {
		return err
	}
	only, err := e.onlyClassic(o.classic)
	if err != nil {
		return err
	}
	if c := e.peerHere(ctx); c != nil && !only && !o.ofItsOwn() && !o.once && !o.http {
		return handShares(ctx, e, c, o, files)
	}
	files, remove, err := spoolInput(ctx, e, o, files)
	if err != nil {
		return err
	}
	defer remove()
	if only {
		return shareClassic(ctx, e, o, files)
	}
	sw, err := e.pick()
	if err != nil {
		return err
	}
	if sw == nil {
		states, err := e.states()
		if err != nil {
			return err
		}
		if sw, err = states.Create(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var host *serverHost
	if sw.IsServer() && e.server == defaultServer {
		var old *swarm.ServerConfig
		if o.classic {
			old = &swarm.ServerConfig{Log: e.log(slog.LevelWarn)}
		}
		host, err = openServer(ctx, e, sw, o.serverListen, "", old, slog.LevelWarn)
		switch {
		case errors.Is(err, identity.ErrServing):
		case err != nil:
			return err
		default:
			g.Go(func() error { return host.serve(ctx) })
		}
	}
	g.Go(func() error {
		defer cancel()
		return shareIn(ctx, e, o, sw, files, host != nil)
	})
	return g.Wait()
}

// shareIn shares files in a swarm.
func shareIn(ctx context.Context, e *env, o shareOptions, sw *identity.Swarm, files []string, serving bool) error {
	m, err := o.member(e, sw, slog.LevelWarn)
	if err != nil {
		return err
	}
	defer m.Close()
	if c := m.Classic(); c != nil {
		for _, path := range files {
			if _, err := c.Share(path, o.name); err != nil {
				return err
			}
		}
	}
	return m.Run(ctx, func(ctx context.Context) error {
		var shares []*node.Sharing
		for _, path := range files {
			s, err := sharePath(ctx, e, m, path, o.name)
			if err != nil {
				return err
			}
			shares = append(shares, s)
			defer trackShare(e, s).end()
			if err := announce(e, net.JoinHostPort("", fmt.Sprint(m.Port())), s, o.classic); err != nil {
				return err
			}
		}
		who := thisCommand
		if serving {
			who = servesToo
		}
		if err := tellOthers(e, sw, shares, who); err != nil {
			return err
		}
		if o.http {
			if err := tellCurl(e, sw, m, shares); err != nil {
				return err
			}
		}
		defer e.screen.show(giving(m))()
		if o.once {
			return untilCopied(ctx, shares)
		}
		<-ctx.Done()
		return nil // that is how sharing ends
	})
}

// untilCopied waits until each share was given whole to somebody.
func untilCopied(ctx context.Context, shares []*node.Sharing) error {
	for _, s := range shares {
		select {
		case <-s.Copied():
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// announce says what is shared.
func announce(e *env, addr string, s *node.Sharing, classic bool) error {
	if e.json {
		printJSON(e.stdout, struct {
			V    int    `json:"v"`
			T    string `json:"t"`
			Name string `json:"name"`
			Size int64  `json:"size"`
			Path string `json:"path"`
			ID   string `json:"id"`
			Addr string `json:"addr"`
			Kind string `json:"kind"`
		}{1, "sharing", s.Name, s.Manifest.Geo.Size, s.Path, s.Manifest.ID.String(), addr, s.Kind.String()})
		return nil
	}
	if e.quiet {
		return nil
	}
	how := "encrypted, verified, for this swarm only"
	if classic {
		how += "; to classic peers unencrypted, unverified"
	}
	e.screen.printf("Sharing  %s  %s  (%s)\n         id  %s\n", titled(s.Name, s.Kind), size(s.Manifest.Geo.Size), how, s.Manifest.ID)
	return nil
}

// tellOthers prints what the others type: with a token where this machine can let them in.
func tellOthers(e *env, sw *identity.Swarm, shares []*node.Sharing, who sharer) error {
	var links []string
	if sw.IsServer() {
		token, _, err := sw.NewToken(identity.MemberRole, identity.TokenLife, 0, time.Now())
		if err != nil {
			return err
		}
		for _, s := range shares {
			link := sw.Link(token, s.Name, content.PrefixOf(s.Manifest.ID))
			link.Dir = s.Kind == wire.KindDirectory
			links = append(links, link.String())
		}
	}
	if e.json {
		for i, link := range links {
			printJSON(e.stdout, struct {
				V    int    `json:"v"`
				T    string `json:"t"`
				Name string `json:"name"`
				Link string `json:"link"`
			}{1, "link", shares[i].Name, link})
		}
		return nil
	}
	if e.quiet {
		return nil
	}
	if who == servesToo {
		e.screen.printf("\nThe swarm server runs here, while this does.\n")
	}
	e.screen.printf("\nOn the other machines run:\n\n")
	for i, s := range shares {
		if links != nil {
			e.screen.printf("    shoal get %s\n", shellQuote(links[i]))
		} else {
			e.screen.printf("    shoal get %s\n", shellQuote(s.Name))
		}
	}
	if links != nil {
		e.screen.printf("\nThe link lets any machine into the swarm for 24 hours. Those that are in need only the name.\n")
	} else {
		e.screen.printf("\nThey must be in the swarm: shoal link  on the server's machine prints what lets them in.\n")
	}
	if who == handedOver {
		e.screen.printf("The peer of this machine shares it from now on:  shoal status    shows how.\n")
		return nil
	}
	e.screen.printf("Ctrl-C stops sharing.\n")
	return nil
}

// sharer is who shares what a command was told to share.
type sharer int

const (
	thisCommand sharer = iota
	servesToo          // this command, in which the swarm's server runs as well
	handedOver         // the long-running peer
)

// tellCurl prints how a machine without shoal gets the shares: from this peer alone, and verified by their id afterwards.
func tellCurl(e *env, sw *identity.Swarm, m *node.Member, shares []*node.Sharing) error {
	token, err := sw.HTTPToken()
	if err != nil {
		return err
	}
	host := identity.DNSName(sw.Self(), sw.ID())
	addr := m.Addr()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ip := strings.TrimSuffix(addr, ":"+port)
	for _, s := range shares {
		url := fmt.Sprintf("https://%s:%s/content/%s", host, port, s.Manifest.ID)
		resolve := fmt.Sprintf("%s:%s:%s", host, port, ip)
		if e.json {
			printJSON(e.stdout, struct {
				V       int    `json:"v"`
				T       string `json:"t"`
				Name    string `json:"name"`
				URL     string `json:"url"`
				Resolve string `json:"resolve"`
				CACert  string `json:"cacert"`
				Token   string `json:"token"`
			}{1, "http", s.Name, url, resolve, sw.AuthorityPath(), token})
		} else if !e.quiet {
			e.screen.printf("\nWithout shoal, with %s copied there as authority.pem:\n\n    curl --cacert authority.pem --resolve %s -H 'Authorization: Bearer %s' -C - -o %s %s\n",
				sw.AuthorityPath(), resolve, token, shellQuote(s.Name), url)
		}
	}
	return nil
}

// giving describes what a member gives to others.
func giving(m *node.Member) func() gauge {
	last, at, rate := int64(0), time.Now(), 0.0
	return func() gauge {
		sent := m.Sent()
		if dt := time.Since(at); dt > time.Second {
			rate = float64(sent-last) / dt.Seconds()
			last, at = sent, time.Now()
		}
		return gauge{Label: fmt.Sprintf("Serving: %d connections, %s/s up, %s in all", m.Sessions(), size(int64(rate)), size(sent))}
	}
}

// shareClassic shares files in a classic swarm alone.
func shareClassic(ctx context.Context, e *env, o shareOptions, files []string) error {
	n, err := o.node(e, slog.LevelWarn, func(name string, err error) {
		e.screen.printf("warning: %s is not served any more: %s\n", quote(name), oneLine(err.Error()))
	})
	if err != nil {
		return err
	}
	defer n.Close()
	for _, path := range files {
		if _, err := n.Share(path, o.name); err != nil {
			return err
		}
	}
	return n.Run(ctx, func(ctx context.Context) error {
		announceShares(e, n)
		defer e.screen.show(serving(n))()
		<-ctx.Done()
		return nil // that is how sharing ends
	})
}

// announceShares says what is shared with classic peers, and how the others get it.
func announceShares(e *env, n *node.Node) {
	self, _ := n.Self()
	for _, s := range n.Shares() {
		if e.json {
			printJSON(e.stdout, struct {
				V    int    `json:"v"`
				T    string `json:"t"`
				Name string `json:"name"`
				Size int64  `json:"size"`
				Path string `json:"path"`
				Addr string `json:"addr"`
			}{1, "sharing", s.Name, s.Size, s.Path, self.String()})
		} else if !e.quiet {
			e.screen.printf("Sharing  %s  %s  from %v  (classic: unencrypted, unverified)\n", quote(s.Name), size(s.Size), self)
		}
	}
	if e.json || e.quiet {
		return
	}
	e.screen.printf("\nOn the other machines run:\n\n")
	for _, s := range n.Shares() {
		e.screen.printf("    shoal get --classic --server %s %s\n", e.server, shellQuote(s.Name))
	}
	e.screen.printf("\nCtrl-C stops sharing.\n")
}

// serving describes what a classic peer gives to others.
func serving(n *node.Node) func() gauge {
	last, at, rate := int64(0), time.Now(), 0.0
	return func() gauge {
		st := n.Stats()
		if dt := time.Since(at); dt > time.Second {
			rate = float64(st.Sent-last) / dt.Seconds()
			last, at = st.Sent, time.Now()
		}
		return gauge{Label: fmt.Sprintf("Serving: %d connections, %s/s up, %s in all, %d other members",
			st.Serving, size(int64(rate)), size(st.Sent), st.Members)}
	}
}
