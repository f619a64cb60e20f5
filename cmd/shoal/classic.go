package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"shoal/internal/classic"
	"shoal/internal/node"
	"shoal/internal/throttle"

	"github.com/spf13/cobra"
)

var defaultServer = net.JoinHostPort("127.0.0.1", strconv.Itoa(classic.DefaultPort))

// peerFlags are the flags of a command that is a peer while it runs.
type peerFlags struct {
	classic   bool
	listen    string
	advertise string
	limits    limitFlags
	site      string
	tells     bool   // what others do wrong is told in words, not in the log
	asks      bool   // it only asks: nobody need find it
	announce  uint16 // the port of another process of this peer, which is announced instead of its own
}

func (p *peerFlags) add(cmd *cobra.Command) {
	addClassic(cmd, &p.classic)
	p.limits.add(cmd.Flags())
	cmd.Flags().StringVar(&p.listen, "listen", "",
		fmt.Sprintf("where to serve other peers, ADDR:PORT (default: every interface, port %d, or any if that is taken)", node.DefaultPort))
	cmd.Flags().StringVar(&p.advertise, "advertise", "",
		"address that others are told, ADDR[:PORT], one of this machine's (default: the one from which the server is reached)")
}

func (p *peerFlags) addSite(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.site, "site", "", "where this machine is, any word: between sites each piece crosses about once")
}

func addClassic(cmd *cobra.Command, classic *bool) {
	cmd.Flags().BoolVar(classic, "classic", false, "use the classic protocol: unencrypted, unverified, open to anyone who connects")
}

// wantClassic makes sure that nobody uses the classic protocol unawares.
func wantClassic(given bool) error {
	if given {
		return nil
	}
	return &usageError{"this version speaks only the classic protocol, which is unencrypted and unverified: add --classic to use it"}
}

// node makes a node as the flags say.
func (p *peerFlags) node(e *env, level slog.Level, changed func(string, error)) (*node.Node, error) {
	if err := wantClassic(p.classic); err != nil {
		return nil, err
	}
	server, err := hostPort(e.server, classic.DefaultPort)
	if err != nil {
		return nil, &usageError{"--server: " + err.Error()}
	}
	cfg := node.Config{
		Server: server, Log: e.log(level), Changed: changed,
		Up: throttle.New(int64(p.limits.up)), Down: throttle.New(int64(p.limits.down)),
	}
	if p.listen != "" {
		if cfg.Listen, err = hostPort(p.listen, node.DefaultPort); err != nil {
			return nil, &usageError{"--listen: " + err.Error()}
		}
	}
	if p.advertise != "" {
		if cfg.Advertise, cfg.Port, err = parseAddr(p.advertise); err == nil {
			err = node.CheckAdvertise(cfg.Advertise)
		}
		if err != nil {
			return nil, &usageError{"--advertise: " + err.Error()}
		}
	}
	return node.New(cfg), nil
}

// hostPort completes HOST or HOST:PORT.
func hostPort(s string, port int) (string, error) {
	if strings.HasPrefix(s, ":") || strings.Contains(s, ":") {
		host, p, err := net.SplitHostPort(s)
		if err != nil {
			return "", err
		}
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return "", fmt.Errorf("%q is no port", p)
		}
		return net.JoinHostPort(host, p), nil
	}
	if s == "" {
		return "", errors.New("it is empty")
	}
	return net.JoinHostPort(s, strconv.Itoa(port)), nil
}

// parseAddr reads ADDR or ADDR:PORT; the port is 0 where there is none.
func parseAddr(s string) (netip.Addr, uint16, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr(), ap.Port(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, 0, fmt.Errorf("%q is neither ADDR nor ADDR:PORT", s)
	}
	return a, 0, nil
}
