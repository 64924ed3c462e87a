// Checks custom resources against the schemas of their definitions: routes, KEDA, monitors.
//   node custom_resources.mjs NODE_MODULES < resources.json     (a list of resources)
// Prints a line for each fault. Unknown fields pass here: the tests of the chart look for those.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const KINDS = {
  HTTPRoute: "gateway-api/gateway.networking.k8s.io/v1",
  ScaledObject: "keda/keda.sh/v1alpha1",
  PrometheusRule: "prometheus-operator/monitoring.coreos.com/v1",
  ServiceMonitor: "prometheus-operator/monitoring.coreos.com/v1",
};

const models = join(resolve(process.argv[2]), "@kubernetes-models");
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${resource.kind} ${resource.metadata.name}`;
  const place = KINDS[resource.kind];
  if (!place || !place.endsWith(resource.apiVersion)) {
    console.log(`${name}: nobody checks ${resource.apiVersion}`);
    continue;
  }
  const { [resource.kind]: Model } = await import(join(models, place, "index.js"));
  try {
    new Model(resource).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
