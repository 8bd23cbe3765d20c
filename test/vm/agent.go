package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// agent talks to the qemu-guest-agent of a guest, one JSON object per line. It connects
// at the first call, and again after a call that failed: otherwise a late answer would
// be taken for the answer to the next call. Not safe for concurrent use.
type agent struct {
	socket string
	conn   net.Conn
	in     *bufio.Reader
	syncs  int
}

// call has the agent execute command and waits for its answer until ctx ends, even if
// the guest is still booting. result can be nil.
func (a *agent) call(ctx context.Context, command string, args, result any) error {
	err := a.connect(ctx)
	if err == nil {
		err = a.exchange(ctx, command, args, result)
	}
	if err != nil {
		a.close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("guest agent: %s: %w", command, err)
	}
	return nil
}

func (a *agent) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}

// connect opens a conversation, unless one is open. The byte 0xff is in no JSON: it makes
// the agent forget an incomplete command, and marks the answer to this one among those to
// earlier conversations. It is sent repeatedly: one of the first fifty machines, asked
// once while it booted, never answered.
func (a *agent) connect(ctx context.Context) error {
	if a.conn != nil {
		return nil
	}
	conn, err := dial(ctx, a.socket)
	if err != nil {
		return err
	}
	a.conn, a.in = conn, bufio.NewReader(conn)
	for {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := a.sync(once)
		cancel()
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// sync reads until the answer to its own question.
func (a *agent) sync(ctx context.Context) error {
	a.syncs++
	defer a.interruptedBy(ctx)()
	if err := a.send("\xff", "guest-sync-delimited", map[string]any{"id": a.syncs}); err != nil {
		return err
	}
	for {
		if _, err := a.in.ReadBytes(0xff); err != nil {
			return err
		}
		var id int
		if err := a.receive(&id); err != nil || id == a.syncs {
			return err
		}
	}
}

func (a *agent) exchange(ctx context.Context, command string, args, result any) error {
	defer a.interruptedBy(ctx)()
	if err := a.send("", command, args); err != nil {
		return err
	}
	return a.receive(result)
}

// interruptedBy makes the end of ctx interrupt whatever waits on the connection, until
// stop is called.
func (a *agent) interruptedBy(ctx context.Context) (stop func() bool) {
	conn := a.conn
	_ = conn.SetDeadline(time.Time{})
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

func (a *agent) send(mark, command string, args any) error {
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.conn, "%s%s\n", mark, request)
	return err
}

func (a *agent) receive(result any) error {
	line, err := a.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var answer struct {
		Return json.RawMessage
		Error  *struct{ Class, Desc string }
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("%w in %q", err, line)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s", answer.Error.Class, answer.Error.Desc)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Return, result)
}

// dial connects to a socket that qemu is about to make.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
