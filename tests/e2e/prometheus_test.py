# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus, configured from deploy/, scrapes a coordinator that trains: every panel of the
dashboard must find data, and promtool must have nothing to say."""
import json
import socket
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

import yaml
from harness import SOURCE, wait_until
from service import Service

DEPLOY = SOURCE / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/training.json").read_text())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def promtool(*arguments, **options):
    return subprocess.run(["promtool", "check", *arguments], capture_output=True, check=False, **options)


class PrometheusTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()
        cls.addClassCleanup(cls.service.stop)
        cls.start_prometheus()
        cls.addClassCleanup(cls.stop_prometheus)
        cls.job_id = cls.service.submit(cls.service.spec("watched", epochs=1_000_000)).job_id

    @classmethod
    def start_prometheus(cls):
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"].update(scrape_interval="500ms", evaluation_interval="500ms")
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [cls.service.coordinator.http]
        path = cls.service.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        # Prometheus cannot say which port it was given, so find a free one; another may take it first.
        for _ in range(3):
            address = f"127.0.0.1:{free_port()}"
            with open(cls.service.folder / "prometheus.log", "wb") as log:
                cls.prometheus = subprocess.Popen(
                    ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={cls.service.folder / 'tsdb'}",
                     f"--web.listen-address={address}"], stdout=log, stderr=log)
            cls.url = f"http://{address}"
            if wait_until("Prometheus to be ready or to end", lambda: cls.prometheus.poll() or cls.ready()) is True:
                return
        raise RuntimeError((cls.service.folder / "prometheus.log").read_text()[-2000:])

    @classmethod
    def ready(cls):
        try:
            return bool(fetch(cls.url + "/-/ready"))
        except (urllib.error.URLError, ConnectionError):
            return False

    @classmethod
    def stop_prometheus(cls):
        cls.prometheus.terminate()
        cls.prometheus.wait(timeout=30)

    def query(self, expression):
        answer = fetch(self.url + "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return json.loads(answer)["data"]["result"]

    def test_every_panel_finds_data(self):
        asked = 0
        for panel in DASHBOARD["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$job_id", self.job_id).replace("$__rate_interval", "10s")
                with self.subTest(panel=panel["title"], expression=expression):
                    self.assertTrue(wait_until(f"data for {expression}", lambda e=expression: self.query(e)))
                    asked += 1
        self.assertGreaterEqual(asked, 10)
        workers = wait_until("two workers up", lambda: [
            r for r in self.query(f'lockstep_workers_up{{job_id="{self.job_id}"}}') if r["value"][1] == "2"])
        self.assertEqual(len(workers), 1)

    def test_the_variable_lists_the_job(self):
        def values():
            return json.loads(fetch(self.url + "/api/v1/label/job_id/values"))["data"]

        self.assertIn(self.job_id, wait_until("a job_id label", values))

    def test_promtool_accepts_the_metrics(self):
        wait_until("a training metric", lambda: b"lockstep_train_loss" in self.metrics())
        checked = promtool("metrics", input=self.metrics())
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, b""))

    def metrics(self):
        return fetch(f"http://{self.service.coordinator.http}/metrics")

    def test_promtool_accepts_the_configuration(self):
        checked = promtool("config", str(DEPLOY / "prometheus/prometheus.yml"))
        self.assertEqual(checked.returncode, 0, checked.stderr)
        checked = promtool("rules", str(DEPLOY / "prometheus/alerts.yaml"))
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_alerts_fire_when_they_should(self):
        tested = subprocess.run(["promtool", "test", "rules", str(SOURCE / "tests/e2e/alerts_test.yaml")],
                                capture_output=True, text=True, check=False)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)

    def test_alerts_are_loaded_and_quiet(self):
        rules = json.loads(fetch(self.url + "/api/v1/rules"))["data"]["groups"][0]["rules"]
        self.assertGreaterEqual(len(rules), 4)
        wait_until("the rules to be evaluated", lambda: all(
            r["health"] == "ok" for r in json.loads(fetch(self.url + "/api/v1/rules"))["data"]["groups"][0]["rules"]))
        alerts = json.loads(fetch(self.url + "/api/v1/alerts"))["data"]["alerts"]
        self.assertEqual([a for a in alerts if a["state"] == "firing"], [])

    def test_compose_mounts_what_exists(self):
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
        for service in services.values():
            for volume in service.get("volumes", []):
                if volume.startswith("./"):
                    self.assertTrue((DEPLOY / volume.split(":")[0]).exists(), volume)
            if "build" in service:
                self.assertTrue((DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists())


if __name__ == "__main__":
    unittest.main()
