package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/nfguard/nfguard/test/demo/box"
)

// patience is how long a request waits for its answer. On one machine an
// answer takes well under a millisecond.
const patience = time.Second

// wrongSource is the classic symptom: the answer came from another address than the
// request was sent to.
type wrongSource struct{ got, want netip.AddrPort }

func (e wrongSource) Error() string {
	return fmt.Sprintf("reply from unexpected source: %s#%d, expected %s#%d",
		e.got.Addr(), e.got.Port(), e.want.Addr(), e.want.Port())
}

// serve runs a web server on :80 and a server on :53 in the pod until ctx ends. The latter
// answers a question of DNS, and sends back anything else.
func serve(ctx context.Context, pod *box.Box) error {
	var web net.Listener
	var dns *net.UDPConn
	err := pod.Do(func() error {
		var err error
		if web, err = net.Listen("tcp4", ":80"); err != nil {
			return err
		}
		dns, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 53})
		return err
	})
	if err != nil {
		return fmt.Errorf("serve in the pod: %w", err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello from "+serverIP)
		}),
		ReadHeaderTimeout: patience,
	}
	go server.Serve(web)
	go func() {
		datagram := make([]byte, 512)
		for {
			n, from, err := dns.ReadFromUDPAddrPort(datagram)
			if err != nil {
				return // closed below
			}
			dns.WriteToUDPAddrPort(answer(datagram[:n]), from)
		}
	}()
	context.AfterFunc(ctx, func() {
		server.Close()
		dns.Close()
	})
	return nil
}

// answer makes an answer to a question of DNS: every name is that of a web server.
func answer(datagram []byte) []byte {
	var ask mdns.Msg
	if ask.Unpack(datagram) != nil || len(ask.Question) != 1 {
		return datagram
	}
	reply := new(mdns.Msg).SetReply(&ask)
	if q := ask.Question[0]; q.Qtype == mdns.TypeA {
		head := mdns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: 5}
		reply.Answer = []mdns.RR{&mdns.A{Hdr: head, A: web.ClusterIP.Addr().AsSlice()}}
	}
	text, err := reply.Pack()
	if err != nil {
		return datagram
	}
	return text
}

// get asks a web server from inside the pod and returns what it said.
func get(ctx context.Context, pod *box.Box, to netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = pod.Do(func() error {
				// http.Transport keeps dialling after the request has ended, so the dialler
				// needs its own limit; otherwise the pod's thread would stay busy.
				conn, err = (&net.Dialer{Timeout: patience}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.String(), nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("no connection within %v", patience)
	}
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 512))
	return answer.Status + ", " + string(body), err
}

// ask sends a datagram from inside the pod and returns the answer. Its socket
// is not connected, so it sees an answer from anywhere; a connected one, such
// as dig's since 9.18, sees nothing and times out.
func ask(_ context.Context, pod *box.Box, to netip.AddrPort) (string, error) {
	var conn *net.UDPConn
	err := pod.Do(func() error {
		var err error
		conn, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.WriteToUDPAddrPort([]byte("web.default.svc?"), to); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, 512)
	_, from, err := conn.ReadFromUDPAddrPort(answer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", fmt.Errorf("no answer within %v", patience)
	case err != nil:
		return "", err
	case from != to:
		return "", wrongSource{from, to}
	}
	return "answer from " + from.String(), nil
}
