# SPDX-License-Identifier: Apache-2.0
"""A program in another language, made from the protos alone, submits, watches and cancels."""
import unittest

import grpc
from harness import wait_until
from service import Service


class ForeignClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()

    @classmethod
    def tearDownClass(cls):
        cls.service.stop()

    def refused(self, call, *arguments, **options):
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **options)
        return caught.exception

    def test_trains_a_job_to_its_end(self):
        job = self.service.submit(self.service.spec("short", epochs=3))
        events = list(self.service.watch(job.job_id))
        self.assertEqual([e.sequence for e in events], list(range(1, len(events) + 1)))
        self.assertEqual(events[-1].state_changed.state, self.service.job.JOB_STATE_SUCCEEDED, events[-1])
        epochs = [e.epoch_completed for e in events if e.HasField("epoch_completed")]
        self.assertEqual([e.epoch for e in epochs], [1, 2, 3])
        self.assertGreater(epochs[-1].test_accuracy, 0.9)
        committed = [e.steps_committed for e in events if e.HasField("steps_committed")]
        self.assertEqual(committed[0].first_step, 0)
        for before, after in zip(committed, committed[1:]):
            self.assertEqual(before.end_step, after.first_step)
        self.assertEqual(committed[-1].end_step, 3 * 512 // 32)
        # A client that comes back asks for what it has not seen.
        middle = events[len(events) // 2].sequence
        self.assertEqual(list(self.service.watch(job.job_id, after_sequence=middle)), events[middle:])

    def test_cancels_a_running_job(self):
        job = self.service.submit(self.service.spec("long", epochs=1_000_000), request_id="foreign-1")
        again = self.service.submit(self.service.spec("long", epochs=1_000_000), request_id="foreign-1")
        self.assertEqual(again.job_id, job.job_id)
        wait_until("the job to run", lambda: self.service.get(job.job_id).progress.step > 0)
        self.service.cancel(job.job_id)
        last = list(self.service.watch(job.job_id))[-1]
        self.assertEqual(last.state_changed.state, self.service.job.JOB_STATE_CANCELLED, last)
        error = self.refused(self.service.cancel, job.job_id)
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)

    def test_a_wrong_spec_is_refused_with_every_violation(self):
        spec = self.service.spec("Wrong Name", epochs=0)
        spec.model.layers[1].dense.units = -1
        error = self.refused(self.service.submit, spec)
        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        self.assertIn(b"google.rpc.BadRequest", details)
        for field in (b"name", b"training.epochs", b"model.layers[1].dense.units"):
            self.assertIn(field, details)

    def test_an_unknown_job_is_not_found(self):
        self.assertEqual(self.refused(self.service.get, "nobody").code(), grpc.StatusCode.NOT_FOUND)

    def test_health_is_answered(self):
        check = self.service.channel.unary_unary("/grpc.health.v1.Health/Check")
        # HealthCheckResponse{status: SERVING} to HealthCheckRequest{}.
        self.assertEqual(check(b"", timeout=10), b"\x08\x01")

    def test_reflection_lists_the_service(self):
        info = self.service.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        # ServerReflectionRequest{list_services: "*"}.
        answer = next(info(iter([b"\x3a\x01*"]), timeout=10))
        self.assertIn(b"lockstep.v1.TrainingService", answer)


if __name__ == "__main__":
    unittest.main()
