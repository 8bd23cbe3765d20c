// Command pod is the program in the pods of test/cluster. "pause" waits. "serve" is a
// server on TCP and UDP that also does things on request, by HTTP: it sends requests to
// another server or to a DNS server, or writes a file.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	<-ctx.Done()
}

// serve answers HTTP on port 8080, and echoes datagrams on UDP.
func serve() error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		name, _ := os.Hostname() // a pod has one
		fmt.Fprintf(w, "%s\n", name)
	})
	http.HandleFunc("/ask", func(w http.ResponseWriter, r *http.Request) { say(w, ask(r)) })
	http.HandleFunc("/dns", func(w http.ResponseWriter, r *http.Request) { say(w, resolve(r)) })
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) { say(w, write(r)) })
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", ":8080")
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(b)
			if err == nil {
				_, _ = udp.WriteTo(b[:n], from) // if it fails, the client asks again
			}
		}
	}()
	go func() {
		fmt.Fprintln(os.Stderr, http.Serve(l, nil))
		os.Exit(1)
	}()
	return nil
}

// An answer is a result: how often a reply came, and how requests failed.
type answer struct {
	Answered int
	Failed   map[string]int `json:",omitempty"`
	By       map[string]int `json:",omitempty"` // who answered
}

func (a *answer) add(who string, err error) {
	if err != nil {
		if a.Failed == nil {
			a.Failed = map[string]int{}
		}
		a.Failed[err.Error()]++
		return
	}
	a.Answered++
	if a.By == nil {
		a.By = map[string]int{}
	}
	a.By[who]++
}

func say(w http.ResponseWriter, a any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // the client may be gone
}

func number(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.FormValue(name)); err == nil {
		return n
	}
	return otherwise
}

func limit(r *http.Request) time.Duration {
	return time.Duration(number(r, "ms", 2000)) * time.Millisecond
}

// ask sends n requests to address, each on its own connection, or sends requests until
// the time "for" has passed, at most two hundred a second: a port is in use for a minute.
func ask(r *http.Request) (a answer) {
	client := &http.Client{Timeout: limit(r), Transport: &http.Transport{DisableKeepAlives: true}}
	for start, i := time.Now(), 0; ; i++ {
		if d := number(r, "for", 0); d > 0 && time.Since(start) > time.Duration(d)*time.Millisecond || d == 0 && i >= number(r, "n", 3) {
			return a
		}
		a.add(get(client, "http://"+r.FormValue("address")+"/"))
		if r.FormValue("for") != "" {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func get(client *http.Client, url string) (string, error) {
	res, err := client.Get(url)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "", errors.New("timeout")
	}
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b := make([]byte, 256)
	n, _ := res.Body.Read(b)
	return strings.TrimSpace(string(b[:n])), nil
}

var id atomic.Uint32

// resolve sends n queries to a DNS server, from a socket that is not connected, so that
// it sees replies from a wrong address.
func resolve(r *http.Request) (a answer) {
	server, err := netip.ParseAddrPort(r.FormValue("address"))
	if err != nil {
		a.add("", err)
		return a
	}
	for range number(r, "n", 3) {
		a.add(query(server, r.FormValue("name"), limit(r)))
	}
	return a
}

func query(server netip.AddrPort, name string, limit time.Duration) (string, error) {
	packet := binary.BigEndian.AppendUint16(nil, uint16(id.Add(1)))
	packet = append(packet, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		packet = append(append(packet, byte(len(label))), label...)
	}
	packet = append(packet, 0, 0, 1, 0, 1) // A, IN
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit)) // a socket has deadlines
	if _, err := conn.WriteToUDPAddrPort(packet, server); err != nil {
		return "", err
	}
	b := make([]byte, 1500)
	n, from, err := conn.ReadFromUDPAddrPort(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", errors.New("timeout")
	}
	if err != nil {
		return "", err
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if from != server {
		return "", fmt.Errorf("reply from unexpected source: %s#%d, expected %s#%d", from.Addr(), from.Port(), server.Addr(), server.Port())
	}
	if n < len(packet) {
		return "", fmt.Errorf("a reply of %d bytes", n)
	}
	code, answers := b[3]&0xf, binary.BigEndian.Uint16(b[6:])
	if code != 0 || answers != 1 {
		return "", fmt.Errorf("code %d, %d answers", code, answers)
	}
	address, _ := netip.AddrFromSlice(b[n-4 : n]) // one record, its data at the end
	return address.String(), nil
}

// write writes value into path, n times, every ms milliseconds.
func write(r *http.Request) (a answer) {
	for i := range number(r, "n", 1) {
		if i > 0 {
			time.Sleep(limit(r))
		}
		f, err := os.OpenFile(r.FormValue("path"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(r.FormValue("value"))
			f.Close()
		}
		a.add("", err)
	}
	return a
}
