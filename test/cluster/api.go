package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// api sends requests to the API server.
type api struct {
	server string
	client *http.Client
}

func newAPI(n *Node) *api {
	return &api{
		"https://" + n.V4.String() + ":6443",
		&http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext: n.Dial,
			//nolint:gosec // the API server has just made its certificate itself
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}},
	}
}

// do sends a request and returns the response. A status other than 2xx is an error.
func (a *api) do(method, path string, body any) (object, error) {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, a.server+path, text)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, strings.TrimSpace(string(b)))
	}
	var o object
	_ = json.Unmarshal(b, &o) // fails for "ok", which is no object
	return o, nil
}

// Create creates an object; path is that of its kind.
func (c *Cluster) Create(t testing.TB, path string, o object) {
	t.Helper()
	if _, err := c.api.do(http.MethodPost, path, o); err != nil {
		t.Fatal(err)
	}
}

// Get returns an object, or nil if it does not exist.
func (c *Cluster) Get(path string) object {
	o, err := c.api.do(http.MethodGet, path, nil)
	if err != nil {
		return nil
	}
	return o
}

// Delete removes an object.
func (c *Cluster) Delete(t testing.TB, path string) {
	t.Helper()
	if _, err := c.api.do(http.MethodDelete, path+"?gracePeriodSeconds=0", nil); err != nil {
		t.Fatal(err)
	}
}

// at follows the keys and indices of path, separated by dots, into o.
func at(o any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch v := o.(type) {
		case map[string]any:
			o = v[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(v) {
				return nil
			}
			o = v[i]
		default:
			return nil
		}
	}
	return o
}

// answer is the result of a request to the program in a pod.
type answer struct {
	Answered int
	Failed   map[string]int
	By       map[string]int
}

// tell has a pod do something, by an HTTP request from its node, which does not cross the
// bridge.
func (w *Worker) tell(ctx context.Context, ip, what string, args ...string) (a answer, err error) {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Set(args[i], args[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DialContext: w.Dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+":8080/"+what+"?"+q.Encode(), nil)
	if err != nil {
		return a, err
	}
	res, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	return a, json.NewDecoder(res.Body).Decode(&a)
}

// String is an answer for a table: "3 of 3", or how it failed.
func (a answer) String() string {
	n := a.Answered
	var how []string
	for s, c := range a.Failed {
		n += c
		how = append(how, s)
	}
	text := fmt.Sprintf("%d of %d", a.Answered, n)
	if len(how) > 0 {
		text += ": " + strings.Join(how, "; ")
	}
	return text
}
