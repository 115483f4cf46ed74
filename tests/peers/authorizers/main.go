// Cases of Kubernetes' own code for webhook authorizers: files that order them, and what is asked and decided.
//
//	go run . > ../../data/authorizers.json.gz
//
// writes the cases that tests/middleware/authorization/test_authorizers_kubernetes.py compares with.
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/load"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/plugin/pkg/authorizer/webhook"
	"k8s.io/apiserver/plugin/pkg/authorizer/webhook/metrics"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// File is a file and the fields that Kubernetes calls wrong; Unreadable where it cannot be read at all.
type File struct {
	File       map[string]any `json:"file"`
	Wrong      []string       `json:"wrong"`
	Unreadable bool           `json:"unreadable,omitempty"`
}

// Question is what somebody wants to do, what a webhook was asked and said, and what came of it.
type Question struct {
	User       string              `json:"user"`
	UID        string              `json:"uid,omitempty"`
	Groups     []string            `json:"groups"`
	Extra      map[string][]string `json:"extra,omitempty"`
	Verb       string              `json:"verb"`
	Group      string              `json:"group,omitempty"`
	Version    string              `json:"version,omitempty"`
	Resource   string              `json:"resource,omitempty"`
	Sub        string              `json:"sub,omitempty"`
	Namespace  string              `json:"namespace,omitempty"`
	Name       string              `json:"name,omitempty"`
	Path       string              `json:"path,omitempty"`
	Fields     string              `json:"fields,omitempty"`
	Labels     string              `json:"labels,omitempty"`
	Review     string              `json:"review"`
	Policy     string              `json:"policy"`
	Conditions []string            `json:"conditions"`
	Status     map[string]any      `json:"status"`
	Code       int                 `json:"code"`

	Asked    map[string]any `json:"asked"`
	Decision int            `json:"decision"`
	Reason   string         `json:"reason,omitempty"`
	Failed   bool           `json:"failed,omitempty"`
}

var (
	random   = rand.New(rand.NewSource(7))
	compiler = authorizationcel.NewDefaultCompiler()
	known    = sets.New("AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node")
	repeated = sets.New("Webhook")
)

func one[T any](values ...T) T { return values[random.Intn(len(values))] }

func main() {
	files := flag.Int("files", 1500, "")
	questions := flag.Int("questions", 2500, "")
	flag.Parse()
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	kubeconfig := filepath.Join(os.TempDir(), "authorizers.kubeconfig")
	must(os.WriteFile(kubeconfig, []byte("{}"), 0o600))
	defer os.Remove(kubeconfig)
	cases := map[string]any{}
	var found []File
	for range *files {
		found = append(found, file(kubeconfig))
	}
	cases["files"] = found
	var asked []Question
	server := &answering{}
	http := httptest.NewServer(server)
	defer http.Close()
	for range *questions {
		asked = append(asked, question(http.URL, server))
	}
	cases["questions"] = asked
	out, err := gzip.NewWriterLevel(os.Stdout, gzip.BestCompression)
	must(err)
	must(json.NewEncoder(out).Encode(cases))
	must(out.Close())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Files

var durations = []any{"3s", "30s", "31s", "-1s", "500ms", "1.5s", "1m30s", "1d", "5", "", "x", 3, nil, true, "5m0s", "1h"}

var values = map[string][]any{
	"timeout":                                  durations,
	"authorizedTTL":                            durations,
	"unauthorizedTTL":                          durations,
	"cacheAuthorizedRequests":                  {true, false, nil, "yes", 1},
	"cacheUnauthorizedRequests":                {true, false, nil, "no"},
	"subjectAccessReviewVersion":               {"v1", "v1beta1", "v2", "", nil, 1},
	"matchConditionSubjectAccessReviewVersion": {"v1", "v1beta1", "", nil},
	"failurePolicy":                            {"Deny", "NoOpinion", "Allow", "deny", "", nil},
	"connectionInfo": {
		map[string]any{"type": "KubeConfigFile", "kubeConfigFile": "KUBECONFIG"},
		map[string]any{"type": "KubeConfigFile", "kubeConfigFile": "/nowhere/at/all"},
		map[string]any{"type": "KubeConfigFile", "kubeConfigFile": ""},
		map[string]any{"type": "KubeConfigFile"},
		map[string]any{"kubeConfigFile": "KUBECONFIG"},
		map[string]any{"type": "Url", "kubeConfigFile": "KUBECONFIG"},
		map[string]any{}, nil, "KubeConfigFile",
	},
	"matchConditions": {
		nil, []any{}, []any{condition(""), condition("true")}, []any{condition("true"), condition("true")},
		[]any{condition("request.user")}, []any{condition("request.none == 1")}, []any{condition("  ")}, []any{"true"},
		[]any{condition("request.groups.size() > 0")}, []any{condition("'a' == 1")}, []any{condition("(")},
		[]any{condition("request.resourceAttributes.namespace == 'x'"), condition("request.nope")},
		[]any{condition("dyn(true)")}, []any{map[string]any{"expression": "true", "name": "x"}}, "true",
		many(64), many(65),
	},
	"unknown": {1, "x"},
}

func condition(text string) any { return map[string]any{"expression": text} }

func many(number int) []any {
	var all []any
	for each := range number {
		all = append(all, condition(fmt.Sprintf("%d == %d", each, each)))
	}
	return all
}

func entry() map[string]any {
	kind := one[any]("Webhook", "Webhook", "Webhook", "Webhook", "RBAC", "AlwaysAllow", "AlwaysDeny", "Other", "", nil)
	name := one[any]("a.example.com", "b", "c", "d", "e-1", "A", "a_b", "", nil, strings.Repeat("a", 254), "a..b", 1)
	if random.Intn(3) > 0 {
		name = one[any]("a.example.com", "b", "c", "d", "e-1", "f", "g")
	}
	found := map[string]any{"type": kind, "name": name}
	if kind == "Webhook" && random.Intn(12) > 0 || random.Intn(15) == 0 {
		fields := map[string]any{
			"timeout": "3s", "authorizedTTL": "1m", "unauthorizedTTL": "30s", "subjectAccessReviewVersion": "v1",
			"matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
			"connectionInfo":  map[string]any{"type": "KubeConfigFile", "kubeConfigFile": "KUBECONFIG"},
			"matchConditions": []any{condition("has(request.resourceAttributes)")},
		}
		names := sets.List(sets.KeySet(values))
		for range random.Intn(3) {
			if name := one(names...); random.Intn(4) == 0 {
				delete(fields, name)
			} else {
				fields[name] = one(values[name]...)
			}
		}
		found["webhook"] = fields
	}
	if random.Intn(40) == 0 {
		found["unknown"] = 1
	}
	for name, value := range found {
		if value == nil && random.Intn(2) == 0 {
			delete(found, name)
		}
	}
	return found
}

func file(kubeconfig string) File {
	var entries []any
	for range 1 + random.Intn(3) {
		entries = append(entries, entry())
	}
	whole := map[string]any{
		"apiVersion":  "apiserver.config.k8s.io/" + one("v1", "v1", "v1beta1", "v1alpha1"),
		"kind":        "AuthorizationConfiguration",
		"authorizers": entries,
	}
	switch random.Intn(60) {
	case 0:
		whole["authorizers"] = one[any](nil, []any{}, "x")
	case 1:
		whole["apiVersion"] = one[any]("apiserver.config.k8s.io/v2", "v1", nil)
	case 2:
		whole["kind"] = one[any]("AuthenticationConfiguration", "", nil)
	case 3:
		whole["unknown"] = 1
	}
	data, err := json.Marshal(whole)
	must(err)
	found := File{File: whole, Wrong: []string{}}
	configuration, err := load.LoadFromData([]byte(strings.ReplaceAll(string(data), "KUBECONFIG", kubeconfig)))
	if err != nil {
		found.Unreadable = true
		return found
	}
	for _, each := range validation.ValidateAuthorizationConfiguration(compiler, nil, configuration, known, repeated) {
		found.Wrong = append(found.Wrong, each.Field)
	}
	return found
}

// Questions

type answering struct {
	question *Question
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	review := map[string]any{}
	must(json.NewDecoder(r.Body).Decode(&review))
	a.question.Asked = review["spec"].(map[string]any)
	review["status"] = a.question.Status
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(a.question.Code)
	must(json.NewEncoder(w).Encode(review))
}

var atoms = []string{
	"true", "false", "has(request.resourceAttributes)", "has(request.nonResourceAttributes)", "request.user == 'ann'",
	"request.uid != ''", "'devs' in request.groups", "request.groups.exists(g, g.startsWith('system:'))",
	"request.groups.all(g, g.size() > 3)", "request.extra['example.com/team'][0] == 'a'",
	"'example.com/team' in request.extra", "request.extra.exists(key, key.endsWith('team'))",
	"request.resourceAttributes.namespace == 'dev'", "request.resourceAttributes.namespace != ''",
	"request.resourceAttributes.verb in ['get', 'list', 'watch']", "request.resourceAttributes.group == 'apps'",
	"request.resourceAttributes.resource.matches('^po')", "request.resourceAttributes.subresource == ''",
	"request.resourceAttributes.name.startsWith('web')", "request.resourceAttributes.version == 'v1'",
	"has(request.resourceAttributes.fieldSelector)", "has(request.resourceAttributes.labelSelector)",
	"has(request.resourceAttributes.labelSelector.rawSelector)", "has(request.resourceAttributes.name)",
	"request.resourceAttributes.fieldSelector.requirements.exists(r, r.key == 'spec.nodeName' && r.values == ['n1'])",
	"request.resourceAttributes.labelSelector.requirements.exists(r, r.operator == 'NotIn')",
	"request.resourceAttributes.labelSelector.requirements.all(r, has(r.values))",
	"request.nonResourceAttributes.path.startsWith('/api')", "request.nonResourceAttributes.verb == 'get'",
	"request.nonResourceAttributes.path == '/healthz'", "request.groups[1] == 'devs'", "has(request.uid)",
	"has(request.groups)", "has(request.extra)", "has(request.user)", "has(request.nonResourceAttributes.path)",
}

func expression(depth int) string {
	if depth == 0 {
		return one(atoms...)
	}
	switch random.Intn(5) {
	case 0:
		return "!(" + expression(depth-1) + ")"
	case 1:
		return "(" + expression(depth-1) + " && " + expression(depth-1) + ")"
	case 2:
		return "(" + expression(depth-1) + " || " + expression(depth-1) + ")"
	case 3:
		return "(" + expression(depth-1) + " ? " + expression(depth-1) + " : " + expression(depth-1) + ")"
	default:
		return expression(0)
	}
}

func question(url string, server *answering) Question {
	found := Question{
		User: one("ann", "bob", "system:serviceaccount:ci:builder"), UID: one("", "", "7"),
		Groups: one([]string{}, []string{"devs"}, []string{"ops", "devs"}, []string{"system:authenticated", "devs", "a"}),
		Extra: one(nil, nil, map[string][]string{"example.com/team": {"a", "b"}}, map[string][]string{"x": {"1"}},
			map[string][]string{"example.com/team": {}}),
		Verb: one("get", "list", "watch", "create", "deletecollection"), Review: one("v1", "v1", "v1beta1"),
		Policy: one("Deny", "NoOpinion"), Code: one(200, 200, 200, 201, 201, 400, 403, 500), Conditions: []string{},
		Status: map[string]any{"allowed": random.Intn(2) == 0},
	}
	if random.Intn(4) == 0 {
		found.Status["denied"] = random.Intn(2) == 0
	}
	if random.Intn(3) == 0 {
		found.Status["reason"] = one("because", "", "never")
	}
	if random.Intn(8) == 0 {
		found.Status["evaluationError"] = "a role is missing"
	}
	seen := sets.New[string]()
	for range random.Intn(4) {
		if text := expression(random.Intn(3)); !seen.Has(text) {
			seen.Insert(text)
			found.Conditions = append(found.Conditions, text)
		}
	}
	attributes := authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: found.User, UID: found.UID, Groups: found.Groups, Extra: found.Extra},
		Verb: found.Verb,
	}
	if random.Intn(4) == 0 {
		found.Path = one("/healthz", "/api", "/apis/x", "/")
		attributes.Path = found.Path
	} else {
		found.Group, found.Version = one("", "apps", "batch"), one("v1", "v1beta1")
		found.Resource, found.Sub = one("pods", "deployments", "nodes"), one("", "", "status", "log")
		found.Namespace, found.Name = one("", "dev", "prod"), one("", "web", "web-1", "db")
		attributes.ResourceRequest = true
		attributes.APIGroup, attributes.APIVersion, attributes.Resource = found.Group, found.Version, found.Resource
		attributes.Subresource, attributes.Namespace, attributes.Name = found.Sub, found.Namespace, found.Name
		if found.Verb == "list" || found.Verb == "watch" || found.Verb == "deletecollection" {
			found.Fields = one("", "spec.nodeName=n1", "metadata.name=a,spec.x!=b", "a=b\\,c", "x", "a==b,")
			found.Labels = one("", "a=b", "a in (x,y),!b", "a,c!=d", "n>5", "n>5,a", "a notin (x)", "(", "a in (y,x,y)", "a=")
			if selector, err := fields.ParseSelector(found.Fields); found.Fields != "" && err == nil {
				attributes.FieldSelectorRequirements = selector.Requirements()
			}
			if requirements, err := labels.ParseToRequirements(found.Labels); found.Labels != "" && err == nil {
				attributes.LabelSelectorRequirements = requirements
			}
		}
	}
	var conditions []apiserver.WebhookMatchCondition
	for _, text := range found.Conditions {
		conditions = append(conditions, apiserver.WebhookMatchCondition{Expression: text})
	}
	onError := authorizer.DecisionDeny
	if found.Policy == "NoOpinion" {
		onError = authorizer.DecisionNoOpinion
	}
	judge, err := webhook.New(&rest.Config{Host: url, QPS: -1}, found.Review, time.Minute, time.Minute,
		wait.Backoff{Steps: 1}, onError, conditions, "w", metrics.NoopAuthorizerMetrics{}, compiler)
	must(err)
	server.question = &found
	decision, reason, err := judge.Authorize(context.Background(), attributes)
	found.Decision, found.Reason, found.Failed = int(decision), reason, err != nil
	return found
}
