package main

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"

	"shoal/internal/api"

	"github.com/spf13/pflag"
)

// webFlags say where a command's page and API are.
type webFlags struct {
	web, cert, key string
	names          []string
}

func (w *webFlags) add(f *pflag.FlagSet, addr, usage string) {
	f.StringVar(&w.web, "web", addr, usage)
	f.StringVar(&w.cert, "web-cert", "", "file with the page's certificate and those that signed it, PEM (default: beyond the loopback one that is made here)")
	f.StringVar(&w.key, "web-key", "", "file with the certificate's key, PEM")
	f.StringSliceVar(&w.names, "web-name", nil, "names by which browsers reach the page, besides this machine's addresses and name")
}

// webFlags are those of a configuration; flags that are given decide.
func (c *peerConfig) webFlags(given webFlags) webFlags {
	w := webFlags{*c.Web, c.WebCert, c.WebKey, c.WebNames}
	if given.cert != "" || given.key != "" {
		w.cert, w.key = given.cert, given.key
	}
	if len(given.names) > 0 {
		w.names = given.names
	}
	return w
}

// webPort is where a command's page and API are served.
type webPort struct {
	net.Listener
	url         string
	hosts       []string // by which requests may name it
	fingerprint string   // the fingerprint of a certificate that was made here; empty: there is none
}

// open opens the port; nil: there is to be none. Other: any port will do if another user's has this one. Beyond the loopback everything is encrypted.
func (w webFlags) open(command, state string, other bool) (*webPort, error) {
	if w.web == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(w.web)
	if err != nil {
		return nil, &failure{
			Code: "E-USAGE", Exit: exitUsage, What: "--web " + quote(w.web) + " is no address", Cause: oneLine(err.Error()),
			Next: "shoal " + command + " --web " + defaultWeb,
		}
	}
	given, err := w.certificate(command)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", w.web)
	if errors.Is(err, syscall.EADDRINUSE) && other {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, &failure{
			Code: "E-LISTEN", Exit: exitUsage, What: "cannot listen on " + w.web, Cause: netCause(err),
			Next: "choose another address with  --web ADDR:PORT  (port 0: any free one; --web '' : none)",
		}
	}
	at := ln.Addr().(*net.TCPAddr)
	p := &webPort{Listener: ln, url: "http://" + at.String(), hosts: api.Hosts(ln)}
	if at.IP.IsLoopback() && given == nil {
		return p, nil
	}
	if err := w.secure(p, given, host, state); err != nil {
		ln.Close()
		return nil, err
	}
	return p, nil
}

// certificate reads the one that is given; nil: none is.
func (w webFlags) certificate(command string) (*api.GivenCertificate, error) {
	if w.cert == "" && w.key == "" {
		return nil, nil
	}
	given, err := api.NewGivenCertificate(w.cert, w.key)
	if err != nil {
		return nil, &failure{
			Code: "E-USAGE", Exit: exitUsage, What: "the certificate for the page cannot be used", Cause: oneLine(err.Error()),
			Next: "name a certificate and its key with  --web-cert FILE --web-key FILE; or leave both out: one is made here", err: err,
		}
	}
	return given, nil
}

// secure has a port speak TLS alone.
func (w webFlags) secure(p *webPort, given *api.GivenCertificate, host, state string) error {
	at := p.Addr().(*net.TCPAddr)
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return err
	}
	addrs, err := serverAddrs(at, "")
	if err != nil {
		return err
	}
	names := append([]string{}, w.names...)
	for _, a := range addrs {
		if ip, _, err := net.SplitHostPort(a); err == nil {
			names = append(names, ip)
		}
	}
	if net.ParseIP(host) == nil && host != "" {
		names = append([]string{host}, names...)
	}
	names = append(names, machineName(), "localhost", "127.0.0.1", "::1")
	first := names[0]
	var get func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	if given != nil {
		get = given.Get
		if own := given.Names(); len(own) > 0 && len(w.names) == 0 && !strings.HasPrefix(own[0], "*") {
			first = own[0]
		}
		names = append(names, given.Names()...)
	} else {
		cert, err := api.OwnCertificate(state, names)
		if err != nil {
			return err
		}
		get = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
		p.fingerprint = api.Fingerprint(cert)
	}
	p.url = "https://" + net.JoinHostPort(first, port)
	p.hosts = []string{strings.ToLower(net.JoinHostPort(first, port))}
	for _, n := range names {
		p.hosts = append(p.hosts, strings.ToLower(net.JoinHostPort(n, port)))
		if port == "443" {
			p.hosts = append(p.hosts, strings.ToLower(n))
		}
	}
	p.Listener = api.Secure(p.Listener, get)
	return nil
}

// announce says where the page is, and how to get in.
func (p *webPort) announce(e *env, command string) {
	e.screen.printf("  Page at %s :  %s    prints a link that lets a browser in\n", p.url, command)
	if p.fingerprint != "" {
		e.screen.printf("  It is encrypted with a certificate that this machine has made. Its SHA-256 fingerprint, which browsers show when they ask:\n  %s\n", p.fingerprint)
	}
}
