package lan

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// maxLinks bounds the interfaces that take part.
	maxLinks = 16
	// maxPacket is the longest packet that is read.
	maxPacket = 9000
	// hops is what multicast DNS wants in each packet.
	hops = 255
)

var (
	group4 = netip.MustParseAddrPort("224.0.0.251:5353")
	group6 = netip.MustParseAddrPort("[ff02::fb]:5353")
)

// system is the network of this machine.
type system struct{ log *slog.Logger }

// links returns the interfaces that are up, can multicast, have an address, and are neither loopback nor the end of a tunnel.
func (system) links() (out []link) {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	const want, not = net.FlagUp | net.FlagRunning | net.FlagMulticast, net.FlagLoopback | net.FlagPointToPoint
	for _, i := range all {
		if i.Flags&want != want || i.Flags&not != 0 || len(out) == maxLinks {
			continue
		}
		k := link{name: i.Name, index: i.Index}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && !p.Addr().IsLoopback() && !p.Addr().IsMulticast() {
				k.prefixes = append(k.prefixes, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		if len(k.prefixes) > 0 {
			out = append(out, k)
		}
	}
	return out
}

// sockets are those of one family or two: one of the group, and one to ask with, which only answers come to. Another program on
// this machine may have the group's port alone: then we ask, and are not found.
type sockets struct {
	log     *slog.Logger
	links   []link
	group4  *net.UDPConn
	ask4    *net.UDPConn
	group6  *net.UDPConn
	ask6    *net.UDPConn
	out4    map[*net.UDPConn]*ipv4.PacketConn
	readers sync.WaitGroup
}

func (y system) open(links []link, take func(packet)) (socket, error) {
	s := &sockets{log: y.log, links: links, out4: make(map[*net.UDPConn]*ipv4.PacketConn)}
	four, six := s.open4(), s.open6()
	if s.ask4 == nil && s.ask6 == nil {
		return nil, errors.Join(four, six)
	}
	for _, c := range []*net.UDPConn{s.group4, s.ask4, s.group6, s.ask6} {
		if c != nil {
			s.readers.Go(func() { read(c, c == s.group4 || c == s.group6, take) })
		}
	}
	return s, nil
}

func (k link) system() *net.Interface { return &net.Interface{Index: k.index, Name: k.name} }

func (k link) has4() bool {
	for _, p := range k.prefixes {
		if p.Addr().Is4() {
			return true
		}
	}
	return false
}

func (k link) has6() bool {
	for _, p := range k.prefixes {
		if p.Addr().Is6() {
			return true
		}
	}
	return false
}

func (s *sockets) open4() (err error) {
	var joined *ipv4.PacketConn
	for _, k := range s.links {
		if !k.has4() {
			continue
		}
		if joined != nil {
			if err := joined.JoinGroup(k.system(), net.UDPAddrFromAddrPort(group4)); err != nil {
				s.log.Debug("cannot join the group", "interface", k.name, "err", err)
			}
			continue
		}
		if s.ask4 == nil {
			if s.ask4, err = net.ListenUDP("udp4", nil); err != nil {
				return err
			}
			s.out4[s.ask4] = ipv4.NewPacketConn(s.ask4)
		}
		if s.group4, err = net.ListenMulticastUDP("udp4", k.system(), net.UDPAddrFromAddrPort(group4)); err != nil {
			s.log.Debug("not found on this network: cannot listen", "group", group4, "interface", k.name, "err", err)
			s.group4 = nil
			continue
		}
		joined = ipv4.NewPacketConn(s.group4)
		s.out4[s.group4] = joined
	}
	for _, c := range s.out4 { // as best it goes: others may be content with less
		_, _, _ = c.SetMulticastLoopback(true), c.SetMulticastTTL(hops), c.SetTTL(hops)
	}
	return nil
}

func (s *sockets) open6() (err error) {
	var joined *ipv6.PacketConn
	for _, k := range s.links {
		if !k.has6() {
			continue
		}
		if joined != nil {
			if err := joined.JoinGroup(k.system(), net.UDPAddrFromAddrPort(group6)); err != nil {
				s.log.Debug("cannot join the group", "interface", k.name, "err", err)
			}
			continue
		}
		if s.ask6 == nil {
			if s.ask6, err = net.ListenUDP("udp6", nil); err != nil {
				return err
			}
			c := ipv6.NewPacketConn(s.ask6)
			_, _ = c.SetMulticastLoopback(true), c.SetMulticastHopLimit(hops)
		}
		if s.group6, err = net.ListenMulticastUDP("udp6", k.system(), net.UDPAddrFromAddrPort(group6)); err != nil {
			s.log.Debug("not found on this network: cannot listen", "group", group6, "interface", k.name, "err", err)
			s.group6 = nil
			continue
		}
		joined = ipv6.NewPacketConn(s.group6)
		_, _, _ = joined.SetMulticastLoopback(true), joined.SetMulticastHopLimit(hops), joined.SetHopLimit(hops)
	}
	return nil
}

// read hands on what comes until the socket is closed.
func read(c *net.UDPConn, group bool, take func(packet)) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an interface that went
			<-time.After(100 * time.Millisecond)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		take(packet{from: from, group: group, b: append([]byte(nil), buf[:n]...)})
	}
}

func (s *sockets) ask(b []byte) {
	for _, k := range s.links {
		s.multicast(k, b, s.ask4, s.ask6)
	}
}

func (s *sockets) tell(k link, b []byte) { s.multicast(k, b, s.group4, s.group6) }

// multicast sends on an interface. What does not go is not missed: the next one may.
func (s *sockets) multicast(k link, b []byte, four, six *net.UDPConn) {
	var errs []error
	if four != nil && k.has4() {
		err := s.out4[four].SetMulticastInterface(k.system())
		if err == nil {
			_, err = four.WriteToUDPAddrPort(b, group4)
		}
		errs = append(errs, err)
	}
	if six != nil && k.has6() {
		_, err := six.WriteToUDPAddrPort(b, netip.AddrPortFrom(group6.Addr().WithZone(k.name), group6.Port()))
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Debug("cannot multicast", "interface", k.name, "err", err)
	}
}

func (s *sockets) answer(b []byte, to netip.AddrPort) {
	c := s.group6
	if to.Addr().Is4() {
		c = s.group4
	}
	if c == nil {
		return
	}
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		s.log.Debug("cannot answer", "to", to, "err", err)
	}
}

func (s *sockets) close() {
	for _, c := range []*net.UDPConn{s.group4, s.ask4, s.group6, s.ask6} {
		if c != nil {
			c.Close()
		}
	}
	s.readers.Wait()
}
